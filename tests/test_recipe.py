"""What a picture says of its making, and what is made of that when the picture comes from a stranger."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from src.backbone.parts import fingerprint
from src.files import UserError, file_sha256
from src.recipe import CHUNK, RULES, is_made, read, recipe, repeated, write

PIXELS = np.zeros((2, 3, 3), np.uint8)
GOOD: dict[str, Any] = {
    "format": 1,
    "config": {"sketch": "a.png", "reference": "b.png", "seed": 3, "sampler": {"sigmas": "vp", "steps": 4}},
    "sha256": {"weights": "0" * 64, "backbone": "0" * 12, "sketch": "1" * 64, "reference": "2" * 64},
    "batch": 1,
}


def picture(path: Path, text: str) -> Path:
    info = PngInfo()
    info.add_itxt(CHUNK, text)
    Image.fromarray(PIXELS).save(path, pnginfo=info)
    return path


def test_every_value_that_makes_a_picture_is_kept(pair: dict[str, Any], tmp_path: Path) -> None:
    # What makes no difference to a picture. Each further key of the configuration needs a rule, or a place here.
    neither = {"output", "pairs", "from_png", "batch"}
    made = recipe(pair, {"weights": "w", "backbone": "b", "sketch": "s", "reference": "r"}, 4)
    assert pair.keys() - made["config"].keys() == neither
    assert made["config"]["backbone"] == {"name": "demo", "directory": pair["backbone"]["directory"]}
    assert {f"{group}.{key}" for group in ("sampler", "style") for key in pair[group]} <= RULES.keys()
    write(tmp_path / "new folder/a.png", PIXELS, made)
    assert read(tmp_path / "new folder/a.png") == made
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new folder/a.png")), PIXELS)


def test_a_picture_is_made_if_its_recipe_is_the_same(pair: dict[str, Any], tmp_path: Path) -> None:
    hashes = {"weights": "w", "backbone": "b", "sketch": "s", "reference": "r"}
    path = tmp_path / "a.png"
    assert not is_made(path, recipe(pair, hashes, 4))
    write(path, PIXELS, recipe(pair, hashes, 4))
    assert is_made(path, recipe(pair, hashes, 1))  # in a batch of another size
    assert not is_made(path, recipe(pair | {"seed": 1}, hashes, 4))
    assert not is_made(path, recipe(pair, hashes | {"sketch": "other"}, 4))
    Image.fromarray(PIXELS).save(path)
    assert not is_made(path, recipe(pair, hashes, 4))


def with_(key: str, value: Any) -> str:
    """The good recipe as text with one value, at a dotted key, replaced."""
    values = json.loads(json.dumps(GOOD))
    *groups, last = key.split(".")
    inner = values
    for group in groups:
        inner = inner.setdefault(group, {})
    inner[last] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 3", "it is no JSON"),
        ("[" * 50_000, "it is no JSON"),
        (with_("config.seed", 10**30), "it is no JSON"),
        (" " * 200_000, "more than 100000 characters"),
        ("[]", "its format is not 1"),
        (with_("format", 2), "its format is not 1"),
        (with_("config", []), "config, sha256 or batch"),
        (with_("batch", 10**9), "config, sha256 or batch"),
        (with_("extra", 1), "an unknown key, 'extra'"),
        (with_("config.output", "x.png"), "an unknown key, 'output'"),
        (with_("config.sampler.exec", 1), "an unknown key, 'sampler.exec'"),
        (with_("config.backbone.parts", {"vae": "someone/else"}), "an unknown key, 'backbone.parts'"),
        (with_("config.sampler", "vp"), "an unknown key, 'sampler'"),
        (with_("config.seed", "3"), "seed is '3'; it needs to be a whole number"),
        (with_("config.seed", True), "seed is True"),
        (with_("config.gs", float("nan")), "gs is nan; it needs to be a number"),
        (with_("config.gs", float("inf")), "gs is inf"),
        (with_("config.size", 10**6), "size is 1000000; it needs to be null, or a whole number from 16 to 4096"),
        (with_("config.sampler.steps", 10**6), "sampler.steps is 1000000"),
        (with_("config.sketch", None), "sketch is None; it needs to be a path"),
        (with_("config.sketch", "a\0b"), r"sketch is 'a\\x00b'"),
        (with_("config.sketch", "x" * 999 + "\n"), r"sketch is 'x{56}\.\.\.; it"),
        (with_("config.clean", 1), "clean is 1; it needs to be true or false"),
        (with_("config.guidance", [1, 0]), "guidance is .* two numbers"),
        (with_("config.edits", "edits.yaml"), "edits is 'edits.yaml'"),
        (with_("config.edits", ["red"]), "edits is"),
        (with_("config.start", "c.png"), "its sha256 need to be those of backbone, reference, sketch, start, weights"),
        (with_("sha256.sketch", 5), "its sha256 need"),
    ],
)
def test_a_recipe_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read(picture(tmp_path / "a.png", text))
    assert str(error.value).startswith(f"The recipe in {tmp_path}/a.png cannot be used: ")
    assert read(picture(tmp_path / "a.png", json.dumps(GOOD))) == GOOD


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([f"config.{key}" for key in RULES] + ["format", "config", "sha256", "batch", "config.sampler", "other"])


@settings(deadline=None)
@given(keys, anything)
def test_whatever_a_recipe_holds_it_is_good_or_refused(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    path = picture(tmp_path_factory.getbasetemp() / "any.png", with_(key, value))
    try:
        made = read(path)
    except UserError as error:
        assert "\n" not in str(error) and str(error).endswith(".")
    else:
        assert made.keys() == GOOD.keys()


def test_files_without_a_recipe(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "plain.png")
    Image.fromarray(PIXELS).save(tmp_path / "photo.jpg")
    (tmp_path / "text.png").write_text("hello")
    for name, message in {
        "plain.png": "has no recipe",
        "photo.jpg": "is no readable PNG file",
        "text.png": "is no readable PNG file",
        "none.png": "There is no file",
        ".": "There is no file",
    }.items():
        with pytest.raises(UserError, match=message):
            read(tmp_path / name)


@pytest.fixture
def made(pair: dict[str, Any], tmp_path: Path) -> Path:
    """A picture with a whole recipe."""
    hashes = {key: file_sha256(Path(pair[key])) for key in ("sketch", "reference")}
    hashes |= {
        "weights": file_sha256(Path(pair["checkpoint"]) / "model.safetensors"),
        "backbone": fingerprint(pair["backbone"]),
    }
    write(tmp_path / "made.png", PIXELS, recipe(pair | {"gs": 3, "noise_level": 0.25}, hashes, 4))
    return tmp_path / "made.png"


def test_the_command_line_wins_over_the_recipe(made: Path, pair: dict[str, Any]) -> None:
    again = repeated(made, ["output=again.png"])
    kept = {"gs": 3, "noise_level": 0.25, "sampler": pair["sampler"], "sketch": pair["sketch"], "seed": 0}
    assert {key: again[key] for key in kept} == kept
    assert again["output"] == "again.png" and again["copies"] == 4
    changed = repeated(made, ["output=again.png", "seed=5", "sampler.steps=7", "style.fidelity=1", "gs=1"])
    assert (changed["seed"], changed["gs"], changed["noise_level"]) == (5, 1, 0.25)
    assert changed["sampler"] == {**pair["sampler"], "steps": 7} and changed["style"]["fidelity"] == 1
    karras = repeated(made, ["sampler=karras"])["sampler"]  # the group as a whole
    assert (karras["sigmas"], karras["steps"]) == ("karras", 20)
    listed = repeated(made, ["pairs=list.csv"])
    assert (listed["sketch"], listed["reference"], listed["gs"]) == (None, None, 3)


def test_files_that_are_not_what_they_were(made: Path, pair: dict[str, Any], tmp_path: Path) -> None:
    sketch = Path(pair["sketch"])
    moved = sketch.rename(tmp_path / "moved.png")
    with pytest.raises(UserError, match=r"was made from .*sketch.png, which is not there: give sketch="):
        repeated(made, [])
    assert repeated(made, [f"sketch={moved}"])["sketch"] == str(moved)
    sketch.write_bytes(Path(pair["reference"]).read_bytes())
    with pytest.raises(UserError, match=r"sketch.png has changed since .*made.png was made from it"):
        repeated(made, [])
    assert repeated(made, [f"sketch={sketch}"])["sketch"] == str(sketch)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sha256.weights", "0" * 64, "model.safetensors has changed"),
        ("sha256.backbone", "0" * 12, "other weights of the backbone demo"),
        ("config.backbone.name", "../../x", r"the backbone '../../x', which conf/backbone does not have"),
        ("config.backbone.directory", "/nowhere", "There is no /nowhere/vae.json"),
        ("config.checkpoint", "${oc.env:HOME}", r"was made from \$\{oc.env:HOME\}/model.safetensors, which is not there"),
    ],
)
def test_weights_that_are_not_what_they_were(made: Path, key: str, value: str, message: str) -> None:
    values = read(made)
    group, *rest = key.split(".")
    inner = values[group]
    for name in rest[:-1]:
        inner = inner[name]
    inner[rest[-1]] = value
    with pytest.raises(UserError, match=message):
        repeated(picture(made, json.dumps(values)), [])


def test_an_interpolation_in_a_recipe_stays_a_text(made: Path, tmp_path: Path) -> None:
    values = read(made)
    odd = tmp_path / "${oc.env:HOME}.png"
    odd.write_bytes(Path(values["config"]["sketch"]).read_bytes())
    edits = [{"target": "${oc.env:HOME}", "control": "everything", "target_scale": 8}]
    values["config"] |= {"sketch": str(odd), "edits": edits, "sketch_negative": "${now:%Y}"}
    again = repeated(picture(made, json.dumps(values)), ["seed=1"])
    assert (again["sketch"], again["edits"], again["sketch_negative"]) == (str(odd), edits, "${now:%Y}")
