"""Where drawings come from: stable keys, splits by what is drawn, filters that are counted, and no image opened for it."""

import functools
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from src.data import openmoji
from src.data.color import color_shard
from src.data.columns import Column, Unusable, build_column
from src.data.duplicates import alike, find_duplicates, perceptual_hash
from src.data.images import FITS, MARGIN, encode, fitted, from_bytes, image_in
from src.data.rows import Rows, read_rows, survey, write_rows
from src.data.sources import Removed, Row, key_of, source
from src.files import UserError

FOLDER: dict[str, Any] = {"kind": "folder", "extensions": ["png", "jpg"], "sketches": None, "group": None}
BOORU: dict[str, Any] = {
    "kind": "danbooru2021", "extension": None, "ratings": ["s"], "extensions": ["png", "jpg"], "deleted": False, "banned": False,
    "min_score": 3, "min_side": 32, "require": ["1girl"], "exclude": ["comic"],
}  # fmt: skip
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@functools.cache
def drawn(number: int, size: int = 64) -> np.ndarray:
    return openmoji.render(openmoji.drawings()[number], 0, size, 0).color


def written(options: dict[str, Any], out: Path, split: str = "train", val_share: float = 0, limit: int | None = None) -> Rows:
    items = source(options["kind"]).rows(options)
    return write_rows(items, split, out, val_share=val_share, limit=limit, rows_per_shard=4)


def items_of(rows: Rows) -> Iterator[Row | Unusable]:
    for start, keys in zip(rows.starts, rows.keys, strict=True):
        yield from read_rows(rows.file, start, keys)


def post(number: int, **changes: Any) -> dict[str, Any]:
    tags = [("1girl", 0), ("long_hair", 0), ("^_^", 0), ("alice_(wonderland)", 4), ("somebody", 1), ("wonderland", 3)]
    return {
        "id": str(number), "rating": "s", "score": "5", "file_ext": "png", "image_width": "64", "image_height": "64",
        "is_deleted": False, "is_banned": False,
        "tags": [{"id": "1", "name": name, "category": str(category)} for name, category in tags],
    } | changes  # fmt: skip


@pytest.fixture
def booru(tmp_path: Path) -> Path:
    for number in range(1, 40):
        path = tmp_path / "images" / f"{number % 1000:04d}" / f"{number}.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"never opened")
    return tmp_path


def metadata(root: Path, *files: list[dict[str, Any]]) -> dict[str, Any]:
    folder = root / "metadata"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for number, posts in enumerate(files):
        (folder / f"posts{number:012d}.json").write_text("".join(json.dumps(p) + "\n" for p in posts))
    return BOORU | {"metadata": str(folder), "images": str(root / "images")}


@QUICK
@given(st.data())
def test_rows_depend_on_neither_the_order_of_lines_nor_their_files(booru: Path, data: st.DataObject) -> None:
    posts = [post(number, score=number) for number in range(3, 30)] + [post(7, score=70), post(8, score=8)]  # two posts twice
    expected = {s: written(metadata(booru, posts), booru / s, s, 0.3).keys for s in ("train", "val")}
    first = {s: written(metadata(booru, posts), booru / s, s, 0.3).sha256 for s in ("train", "val")}
    shuffled = data.draw(st.permutations(posts))
    cut = data.draw(st.integers(0, len(posts)))
    options = metadata(booru, shuffled[:cut], shuffled[cut:])
    for split in ("train", "val"):
        again = written(options, booru / split, split, 0.3)
        assert again.keys == expected[split] and again.sha256 == first[split]
    keys = [key for keys in [*expected["train"], *expected["val"]] for key in keys]
    assert len(keys) == len(set(keys)) == 27


@QUICK
@given(
    st.sets(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(lambda n: n[0] != "."),
            min_size=1, max_size=8)
)  # fmt: skip
def test_keys_are_unique_safe_and_do_not_depend_on_other_files(names: set[str]) -> None:
    keys = {name: key_of(f"a/{name}.png".encode()) for name in names}
    assert len(set(keys.values())) == len(names)
    assert all(key.isascii() and not set(key) & set("./\\ \n\t'\"*?") and 0 < len(key) < 64 for key in keys.values())


def test_names_that_read_alike_have_keys_of_their_own(tmp_path: Path) -> None:
    names = ["a b.png", "a_b.png", "a/b.png", "a-b.png", "a_b.jpg", "a.b.png"]
    for name in names:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"never opened")
    options = FOLDER | {"images": str(tmp_path / "images")}
    rows = {row.meta["path"]: row.key for row in items_of(written(options, tmp_path)) if isinstance(row, Row)}
    assert set(rows) == set(names) and len(set(rows.values())) == len(names)
    (tmp_path / "images" / "a b.png").unlink()
    fewer = {row.meta["path"]: row.key for row in items_of(written(options, tmp_path)) if isinstance(row, Row)}
    assert fewer.items() < rows.items()


def test_variants_of_a_drawing_are_on_one_side(tmp_path: Path) -> None:
    for number in range(60):
        for name in (f"{number}_red.png", f"{number}_blue.png", f"other/{number}_red.jpg"):
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / name).write_bytes(b"never opened")
    options = FOLDER | {"images": str(tmp_path / "images"), "group": r"(\d+)_"}
    sides = {split: written(options, tmp_path / split, split, 0.4) for split in ("train", "val")}
    groups = {s: Counter(row.group for row in items_of(rows) if isinstance(row, Row)) for s, rows in sides.items()}
    assert not groups["train"].keys() & groups["val"].keys() and len(groups["train"] | groups["val"]) == 60
    assert set(groups["val"].values()) == {3}
    with pytest.raises(UserError, match="no regular expression"):
        list(source("folder").rows(options | {"group": "("}))


def test_captions_and_tags_of_danbooru(booru: Path) -> None:
    options = metadata(booru, [post(4), post(1, parent_id="4")])
    child, parent = sorted(items_of(written(options, booru)), key=lambda row: row.key)
    assert isinstance(child, Row) and isinstance(parent, Row)
    assert parent.caption == "alice (wonderland), 1girl, long hair, ^_^"
    assert parent.meta["tags"]["artist"] == ["somebody"] and parent.meta["tags"]["copyright"] == ["wonderland"]
    assert child.group == parent.group == "4" and child.place == {"path": "0001/1.png"}
    small = next(items_of(written(options | {"extension": "jpg"}, booru)))
    assert isinstance(small, Row) and small.place["path"].endswith(".jpg")


FILTERED = [
    ("rating", {"rating": "e"}), ("extension", {"file_ext": "zip"}), ("deleted", {"is_deleted": True}),
    ("banned", {"is_banned": True}), ("score", {"score": "2"}), ("size", {"image_height": "31"}),
    ("a required tag is missing", {"tags": []}),
    ("an excluded tag", {"tags": [{"name": n, "category": "0"} for n in ("1girl", "comic")]}),
]  # fmt: skip


def test_a_survey_counts_what_each_filter_removes_and_opens_no_image(booru: Path) -> None:
    posts = [post(number, **changes) for number, (_, changes) in enumerate(FILTERED, 1)]
    posts += [post(number) for number in range(9, 38)] + [post(2999), post(37)]
    options = metadata(booru, posts)
    (booru / "metadata" / "broken.json").write_text('{"id": 5, "ra')
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    danbooru = source("danbooru2021")
    found = survey(danbooru.rows(options), danbooru.FILTERS, 0.25, {"train": 12, "val": None})
    watching = False
    assert opened and all(Path(path).parent.name == "metadata" for path in opened)
    kept = {s: written(options, booru / s, s, 0.25, limit) for s, limit in (("train", 12), ("val", None))}
    rows = {s: sum(isinstance(item, Row) for item in items_of(r)) for s, r in kept.items()}
    assert found.read == len(posts) + 1 and found.rows == rows and rows["train"] == 12
    removed = {name: 1 for name, _ in FILTERED} | {"its image is not there": 1, "cannot be used": 1}
    removed |= {"a row of the same key is there": 1, "beyond the scale's number of drawings": 29 - sum(rows.values())}
    assert found.removed == removed and list(found.removed)[:9] == list(danbooru.FILTERS)
    assert f"{'- rating':<40}{-1:>12}" in found.table()


def test_the_first_rows_are_those_of_a_smaller_number(booru: Path) -> None:
    options = metadata(booru, [post(number) for number in range(1, 39)])
    ten, twenty = ([key for keys in written(options, booru, limit=n).keys for key in keys] for n in (10, 20))
    assert twenty[:10] == ten and len(twenty) == 20


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    for kind, options in (("folder", FOLDER), ("danbooru2021", BOORU), ("webdataset", {"group": None})):
        gone = {name: str(tmp_path / "gone") for name in ("images", "metadata", "shards")}
        with pytest.raises(UserError, match=r"gone.* Give data\.source\.\w+ another path"):
            list(source(kind).rows(options | gone))
    with pytest.raises(UserError, match="There is no source 'zip'"):
        source("zip")
    with pytest.raises(UserError, match="No row remains"):
        written(FOLDER | {"images": str(tmp_path)}, tmp_path)


def built(options: dict[str, Any], out: Path, fit: str = "pad", format: str = "png") -> dict[str, dict[str, bytes]]:
    rows = written(options, out)
    make = functools.partial(
        color_shard, rows=rows.file, starts=rows.starts, kind=options["kind"], options=options, size=32,
        image={"fit": fit, "padding": "#ffffff", "min_side": 1}, encoding={"format": format, "quality": 95},
    )  # fmt: skip
    build_column(out / "color", rows.keys, make, {})
    return {json.loads(sample["json"])["path"]: sample for _, sample in Column(out / "color")}


def test_a_column_is_itself_a_source(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(9):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode(drawn(100 * number), "png"))
        (tmp_path / "images" / f"{number}.json").write_text(json.dumps({"caption": f"thing\n {number}", "artist": "me"}))
    first = built(FOLDER | {"images": str(tmp_path / "images")}, tmp_path / "first")
    shards = str(tmp_path / "first" / "color")
    second = built({"kind": "webdataset", "shards": shards, "group": "group"}, tmp_path / "second")
    pixels = [sorted(from_bytes(image_in(s)).tobytes() for s in column.values()) for column in (first, second)]
    assert pixels[0] == pixels[1] and len(pixels[0]) == 9
    meta = json.loads(first["3.png"]["json"])
    assert meta == {"caption": "thing 3", "artist": "me", "group": "3", "path": "3.png", "width": 64, "height": 64}
    groups = [{json.loads(s["json"])["group"] for s in column.values()} for column in (first, second)]
    assert groups[0] == groups[1]


@pytest.mark.parametrize("fit", FITS)
def test_a_sketch_lies_on_its_drawing(fit: str, tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "sketches" / "deep").mkdir(parents=True)
    drawing = openmoji.drawings()[900]
    rendering = openmoji.render(drawing, 0, 256, 0)
    tall = np.ascontiguousarray(rendering.color[:, 40:200])
    (tmp_path / "images" / "deep" / "a.jpg").write_bytes(encode(tall, "jpg"))
    double = Image.fromarray(np.ascontiguousarray(openmoji.render(drawing, 0, 512, 0).line[:, 80:400]))
    (tmp_path / "sketches" / "deep" / "a.png").write_bytes(encode(np.asarray(double), "png"))
    options = FOLDER | {"images": str(tmp_path / "images"), "sketches": str(tmp_path / "sketches")}
    sample = built(options, tmp_path, fit, "webp")["deep/a.jpg"]
    color, line = from_bytes(image_in(sample)), from_bytes(sample["line.png"], "L")
    assert set(sample) == {"webp", "line.png", "json"} and color.shape[:2] == line.shape
    same, _ = fitted(encode(np.ascontiguousarray(rendering.line[:, 40:200]), "png"), 32, fit, mode="L")
    assert np.abs(same.astype(int) - line).mean() < 2


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(FITS), st.sampled_from(["png", "jpg", "webp"]))
@settings(max_examples=60, deadline=None)
def test_sizes(width: int, height: int, fit: str, format: str) -> None:
    image = np.full((height, width, 3), 90, np.uint8)
    pixels, own = fitted(encode(image, format), 48, fit, padding="#000000")
    assert own == (width, height) and pixels.dtype == np.uint8
    if fit in {"longest", "shorter"}:
        side = max if fit == "longest" else min
        assert side(pixels.shape[:2]) == 48
        other = min if fit == "longest" else max
        assert abs(other(pixels.shape[:2]) - max(1, 48 * other(width, height) / side(width, height))) <= 0.5
    else:
        assert pixels.shape == (48, 48, 3)
    inside = np.abs(pixels.astype(int) - 90).max(-1) <= 3
    if fit == "pad":
        assert abs(inside.mean() - max(1, round(48 * min(width, height) / max(width, height))) / 48) < 1e-9
        assert (pixels[~inside] == 0).all()
    else:
        assert inside.all()


def test_a_crop_is_the_middle_and_a_squeeze_the_whole() -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 255
    assert (fitted(encode(wide, "png"), 40, "crop")[0] == 255).all()
    squeezed, _ = fitted(encode(wide, "png"), 40, "squeeze")
    assert 0.3 < (squeezed > 128).mean() < 0.37 and not squeezed[:, 0].any()


def test_a_jpeg_decoded_small_looks_like_one_decoded_whole() -> None:
    assert MARGIN >= 1
    for number in range(0, 2000, 400):
        data = encode(drawn(number, 1100), "jpg", 90)
        whole = np.asarray(Image.fromarray(from_bytes(data)).resize((256, 256), Image.Resampling.LANCZOS)).astype(float)
        assert np.square(fitted(data, 256, "pad")[0] - whole).mean() < 255**2 / 10**4.4  # 44 dB


def test_images_that_look_alike(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(0, 1200, 100):
        (tmp_path / "images" / f"{number}.png").write_bytes(encode(drawn(number, 192), "png"))
    (tmp_path / "images" / "z again.jpg").write_bytes(encode(drawn(500, 192), "jpg", 80))
    half = Image.fromarray(drawn(700, 192)).resize((120, 120), Image.Resampling.LANCZOS)
    (tmp_path / "images" / "z small.png").write_bytes(encode(np.asarray(half), "png"))
    (tmp_path / "images" / "broken.png").write_bytes(b"")
    (tmp_path / "images" / "white.png").write_bytes(encode(np.full((9, 9, 3), 255, np.uint8), "png"))
    (tmp_path / "images" / "white too.png").write_bytes(encode(np.full((9, 9, 3), 255, np.uint8), "png"))
    options = FOLDER | {"images": str(tmp_path / "images")}
    first = find_duplicates("folder", options, bits=2, keep="first", workers=2, found=tmp_path / "duplicates.json")
    assert first.removed == {key_of(b"z again.jpg"), key_of(b"z small.png")}
    items = list(first.apply(source("folder").rows(options)))
    assert sum(isinstance(item, Removed) for item in items) == 2
    every = find_duplicates("folder", options, bits=2, keep="all", workers=2, found=tmp_path / "duplicates.json")
    groups = {row.key: row.group for row in every.apply(source("folder").rows(options)) if isinstance(row, Row)}
    assert not every.removed and groups[key_of(b"z again.jpg")] == groups[key_of(b"500.png")] == "500"
    (tmp_path / "images" / "0.png").write_bytes(b"")  # the answer is kept until a row changes
    (tmp_path / "images" / "z small.png").unlink()
    less = find_duplicates("folder", options, bits=2, keep="first", workers=1, found=tmp_path / "duplicates.json")
    assert less.removed == {key_of(b"z again.jpg")}


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_alike_hashes_are_joined_as_a_plain_comparison_joins_them(seeds: list[int], bits: int, random: Any) -> None:
    hashes = [s ^ sum(1 << random.randrange(64) for _ in range(random.randrange(4))) for s in seeds for _ in range(3)]
    hashes = [h % 2**64 for h in hashes]
    group = list(range(len(hashes)))
    for i, one in enumerate(hashes):
        for j, other in enumerate(hashes[:i]):
            if one and other and (one ^ other).bit_count() <= bits:
                old, new = max(group[i], group[j]), min(group[i], group[j])
                group = [new if g == old else g for g in group]
    assert alike(np.array(hashes, np.uint64), bits).tolist() == group


def test_a_perceptual_hash_survives_another_format() -> None:
    one, other = drawn(300, 192), drawn(1300, 192)
    assert (perceptual_hash(encode(one, "png")) ^ perceptual_hash(encode(one, "webp", 70))).bit_count() <= 2
    assert (perceptual_hash(encode(one, "png")) ^ perceptual_hash(encode(other, "png"))).bit_count() > 12
