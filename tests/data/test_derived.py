"""Sketch and reference columns: the seeded choice of methods, and what is made of it."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import column
from src.config import compose
from src.data import openmoji
from src.data.columns import Column, build_column
from src.data.derived import METHODS, check_reference, check_sketch, choose_methods, reference_shard, row_rng, sketch_shard
from src.data.images import encode, from_bytes
from src.data.lines import xdog
from src.data.mls import KINDS, folded_share, random_map
from src.files import UserError


@pytest.fixture(scope="module")
def color(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawings of two sizes; every fourth has no line drawing of its own."""

    def make(shard: int, keys: list[str]):
        for i, key in enumerate(keys):
            (sample,) = openmoji.color_shard(0, [key], size=64 if i % 2 else 48, seed=0, min_colored=0.0)
            yield key, {k: v for k, v in sample[1].items() if k != "line.png" or i % 4}  # type: ignore[union-attr]

    folder = tmp_path_factory.mktemp("data") / "color"
    build_column(folder, [openmoji.color_keys("train", 1, 0.12)[:8]], make, {})  # type: ignore[arg-type]
    return folder


def keys_of(color: Path) -> list[str]:
    return Column(color).keys


def inverted(images):
    return [255 - image[..., 0] for image in images]


def halved(images):
    return [image[..., 1] // 2 for image in images]


def sketches(color: Path, **options) -> dict[str, tuple[np.ndarray, dict]]:
    rows = sketch_shard(0, keys_of(color), color=color, seed=0, **options)
    return {key: (from_bytes(sample["png"], "L"), json.loads(sample["json"])) for key, sample in rows}


def test_methods_are_chosen_as_often_as_their_weights_say() -> None:
    weights = {"xdog": 1, "artist": 2, "sketch_keras": 0, "anime2sketch": 5}
    chosen = [choose_methods(row_rng(0, "sketch", str(i)), weights, 0.4) for i in range(4000)]
    assert np.mean([len(choice) == 2 for choice in chosen]) == pytest.approx(0.4, abs=0.03)
    first = Counter(next(iter(choice)) for choice in chosen)
    assert {name: count / 4000 for name, count in first.items()} == pytest.approx(
        {"xdog": 0.125, "artist": 0.25, "anime2sketch": 0.625}, abs=0.03
    )
    second = Counter(list(choice)[1] for choice in chosen if len(choice) == 2 and "anime2sketch" in list(choice)[:1])
    assert second["artist"] / second.total() == pytest.approx(2 / 3, abs=0.05)
    assert np.mean([next(iter(c.values())) for c in chosen if len(c) == 2]) == pytest.approx(0.5, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 9), st.text(max_size=5), st.permutations(METHODS), st.lists(st.sampled_from([0, 0.5, 3]), min_size=4, max_size=4)
)
def test_a_choice_depends_on_seed_and_key_alone(seed: int, key: str, order: list[str], weights: list[float]) -> None:
    values = dict(zip(METHODS, weights, strict=True))
    if not sum(weights):
        return
    one = choose_methods(row_rng(seed, "sketch", key), values, 0.5)
    other = choose_methods(row_rng(seed, "sketch", key), {name: values[name] for name in order}, 0.5)
    assert one == other
    assert sum(one.values()) == pytest.approx(1) and all(values[name] > 0 for name in one)
    # Without blends the first one is the whole.
    assert list(choose_methods(row_rng(seed, "sketch", key), values, 0)) == list(one)[:1]


def test_a_quarter_by_xdog_is_what_it_always_was() -> None:
    options = compose().data.sketch
    for i in range(300):
        (method,) = choose_methods(row_rng(0, "sketch", f"1F600_{i}"), options.methods, options.blend)
        assert method == ("xdog" if row_rng(0, "sketch", f"1F600_{i}").random() < 0.25 else "artist")


def test_each_sketch_is_made_as_its_record_says(color: Path) -> None:
    methods = {"xdog": 1, "artist": 1, "sketch_keras": 1, "anime2sketch": 1}
    made = sketches(
        color, methods=methods, networks={"sketch_keras": inverted, "anime2sketch": halved}, xdog_options={"sigma": 1.1}
    )
    for key, sample in Column(color):
        image = from_bytes(sample["png"])
        line, record = made[key]
        expected = {
            "xdog": lambda image=image: xdog(image, 1.1),
            "artist": lambda sample=sample: from_bytes(sample["line.png"], "L"),
            "sketch_keras": lambda image=image: inverted([image])[0],
            "anime2sketch": lambda image=image: halved([image])[0],
        }[record["lines"]]()
        assert np.array_equal(line, expected) and record.keys() == {"lines"}
    assert len({record["lines"] for _, record in made.values()}) > 1


def test_a_blend_is_the_mean_by_the_recorded_shares(color: Path) -> None:
    made = sketches(
        color,
        methods={"sketch_keras": 1, "anime2sketch": 1},
        blend=1.0,
        networks={"sketch_keras": inverted, "anime2sketch": halved},
    )
    for key, sample in Column(color):
        image = from_bytes(sample["png"])
        line, record = made[key]
        makers = {"sketch_keras": inverted, "anime2sketch": halved}
        names = record["lines"].split("+")
        assert sorted(names) == sorted(makers)
        mean = sum(share * makers[name]([image])[0] for name, share in zip(names, record["shares"], strict=True))
        assert np.abs(line - mean).max() <= 0.52


def test_a_row_without_its_own_lines_gets_another_method(color: Path) -> None:
    made = sketches(color, methods={"artist": 1000, "xdog": 1})
    rows = dict(iter(Column(color)))
    assert {key for key, (_, record) in made.items() if record["lines"] == "xdog"} == {
        k for k, s in rows.items() if "line.png" not in s
    }
    with pytest.raises(UserError, match=r"has no line drawing of its own: give another method a weight"):
        sketches(color, methods={"artist": 1})


def test_an_image_is_read_and_written_in_any_format(color: Path, tmp_path: Path) -> None:
    def recoded(shard: int, keys: list[str]):
        for key, sample in Column(color):
            yield key, {"webp": encode(from_bytes(sample["png"]), "webp", 100)}

    again = tmp_path / "color"
    build_column(again, [keys_of(color)], recoded, {})  # type: ignore[arg-type]
    jpg = {"format": "jpg", "quality": 90}
    for shard, options in ((sketch_shard, {"methods": {"xdog": 1}}), (reference_shard, {"points": 4, "spread": 0.1})):
        plain = dict(shard(0, keys_of(color), color=color, seed=0, **options))  # type: ignore[operator]
        coded = dict(shard(0, keys_of(color), color=again, seed=0, encoding=jpg, **options))  # type: ignore[operator]
        for key, sample in plain.items():
            assert sample.keys() == {"png", "json"} and coded[key].keys() == {"jpg", "json"}
            mode = "L" if shard is sketch_shard else "RGB"
            assert coded[key]["jpg"] == encode(from_bytes(sample["png"], mode), **jpg)


@pytest.mark.parametrize(
    ("methods", "blend", "xdog_options", "message"),
    [
        ({"sketchkeras": 1}, 0, {}, "has no sketchkeras: give weights to xdog, artist"),
        ({"xdog": 0, "artist": 0}, 0, {}, "one of them above 0"),
        ({"xdog": 2, "artist": -1}, 0, {}, "at least 0"),
        ({"xdog": 1}, 1.5, {}, "blend must be a share"),
        ({"xdog": 1}, 0, {"sigma": 0}, "xdog_options cannot be used: sigma must be above 0"),
        ({"xdog": 1}, 0, {"sgma": 1}, "xdog_options cannot be used"),
    ],
)
def test_wrong_sketch_options_are_named(methods: dict, blend: float, xdog_options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_sketch(methods, blend, xdog_options)


def test_a_stage_without_the_weights_it_needs_ends_before_its_first_row(data_root: Path) -> None:
    with pytest.raises(UserError, match=r"set data.sketch.networks.sketch_keras to the path of model.pth"):
        column._sketch(compose([f"data.root={data_root}", "data.sketch.methods.sketch_keras=1"]), "train")


def test_a_column_knows_its_networks_by_their_weights(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded:
        def __init__(self, fingerprint: str) -> None:
            self.fingerprint = fingerprint

    identities = []
    for fingerprint in ("a", "b", "a"):
        monkeypatch.setattr(column, "_line_networks", lambda *_, f=fingerprint: {"sketch_keras": Loaded(f)})
        _, _, identity = column._sketch(compose([f"data.root={data_root}"]), "train")
        identities.append(json.dumps(identity))
    assert identities[0] == identities[2] != identities[1]


def test_references_fold_no_more_than_allowed_and_are_drawn_by_key_alone(color: Path) -> None:
    options = {"points": 8, "spread": 0.6, "displacement": "normal", "max_folded": 0.02}
    rows = dict(reference_shard(0, keys_of(color), color=color, seed=0, kinds=["rigid", "affine"], **options))  # type: ignore[arg-type]
    for key, sample in Column(color):
        rng = row_rng(0, "reference", key)
        kind = ["rigid", "affine"][rng.integers(2)]
        image = from_bytes(sample["png"])
        backward = random_map(rng, image.shape[:2], kind, 8, 0.6, "normal", 0.02)
        assert json.loads(rows[key]["json"]) == {"mls": kind}
        assert folded_share(backward) <= 0.02
    options["max_folded"] = 1.0
    other = dict(reference_shard(0, keys_of(color), color=color, seed=0, kinds=["rigid", "affine"], **options))  # type: ignore[arg-type]
    assert sum(rows[key]["png"] != other[key]["png"] for key in rows) >= 4


def test_batches_on_a_device_give_the_same_references(color: Path) -> None:
    options = {"color": color, "seed": 0, "points": 8, "spread": 0.4, "max_folded": 0.03}
    one = dict(reference_shard(0, keys_of(color), **options))  # type: ignore[arg-type]
    batch = dict(reference_shard(0, keys_of(color), **options, device="cpu"))  # type: ignore[arg-type]
    assert one.keys() == batch.keys()
    for key in one:
        assert one[key]["json"] == batch[key]["json"]
        difference = from_bytes(one[key]["png"]).astype(int) - from_bytes(batch[key]["png"])
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": []}, "kinds must be one or more of affine, similarity, rigid"),
        ({"kinds": ["rigid", "bent"]}, "kinds must be"),
        ({"displacement": "box"}, "displacement must be one of disc, normal, not box"),
        ({"spread": -1.0}, "at least 0"),
        ({"max_folded": 2.0}, "max_folded from 0 to 1"),
    ],
)
def test_wrong_reference_options_are_named(change: dict, message: str) -> None:
    options = {"kinds": KINDS, "points": 8, "spread": 0.1, "displacement": "disc", "max_folded": 0.01} | change
    with pytest.raises(UserError, match=message):
        check_reference(**options)
