"""The sampling entry point, run as a user runs it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.entry import quoted
from src.files import UserError
from src.recipe import read
from src.sample import PATHS, PATHS_OR_LISTS, colorize


def test_any_path_and_a_picture_repeated_by_its_recipe(command, tmp_path: Path, trained: Path) -> None:
    folder = tmp_path / "my, drawings = [1] (ü) {x} 'q' ${oc.env:HOME}"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("sketch one.png", "two.png"):
        Image.fromarray((rng.random((90, 60)) > 0.1).astype(np.uint8) * 255).save(folder / name)
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / "ref.webp")
    (folder / "broken.png").write_text("hello")
    (folder / "list.csv").write_text("sketch,reference,seed\nbroken.png,ref.webp,\nsketch one.png,ref.webp,3\ntwo.png,ref.webp,\n")
    (folder / "edits.yaml").write_text("- {target: red hair, control: hair, target_scale: 8}\n")
    arguments = ["sampler.steps=3", f"edits={folder}/edits.yaml"]
    result = command(
        "src.sample", f"checkpoint={trained}", f"pairs={folder}/list.csv", f"output={folder}/out", *arguments, places=False
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "failed: " in result.stderr and "broken.png: not a readable image" in result.stderr
    assert "error: 1 of 3 pairs failed." in result.stderr
    first = folder / "out/sketch one.png"
    recipe = read(first)
    assert recipe["batch"] == 2 and recipe["config"]["seed"] == 3 and recipe["config"]["sketch"] == f"{folder}/sketch one.png"
    again = command("src.sample", f"from_png={first}", f"output={folder}/again.png", places=False)
    assert again.returncode == 0, again.stderr
    a, b = Image.open(first), Image.open(folder / "again.png")
    assert a.size == (64, 96) and a.tobytes() == b.tobytes() and a.info == b.info
    bad = command("src.sample", f"from_png={folder}/two.png", "output=x.png", places=False)
    assert bad.returncode == 1 and "two.png has no recipe" in bad.stderr and "Traceback" not in bad.stderr
    assert {p.name for p in tmp_path.iterdir()} == {folder.name}


def test_a_list_goes_on_where_it_stopped(pair: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = ["sketch,reference,output,seed,gs", "sketch.png,reference.png,a.png,0,", "sketch.png,reference.png,b.png,1,"]
    list_ = tmp_path / "list.csv"
    list_.write_text("\n".join([*rows, "sketch.png,reference.png,c.png,1,1"]))
    settings = pair | {"sketch": None, "reference": None, "pairs": str(list_), "output": str(tmp_path / "out"), "size": 32}
    colorize(settings | {"batch": 1})
    alone = {name: np.asarray(Image.open(tmp_path / f"out/{name}.png")).astype(int) for name in "abc"}
    assert alone["a"].shape == (48, 32, 3)
    assert read(tmp_path / "out/c.png")["config"]["gs"] == 1 and read(tmp_path / "out/b.png")["config"]["gs"] == 2
    capsys.readouterr()
    colorize(settings)
    assert capsys.readouterr().out.count("is there already") == 3
    (tmp_path / "out/a.png").unlink()
    (tmp_path / "out/b.png").write_bytes((tmp_path / "out/c.png").read_bytes())
    colorize(settings)
    assert capsys.readouterr().out.count("is there already") == 1
    for name, batch in {"a": 2, "b": 2, "c": 1}.items():
        assert read(tmp_path / f"out/{name}.png")["batch"] == batch
        assert np.abs(np.asarray(Image.open(tmp_path / f"out/{name}.png")).astype(int) - alone[name]).max() <= 1
    assert np.abs(alone["a"] - alone["b"]).max() > 1  # another seed


def test_one_pair_that_cannot_be_coloured(pair: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "blocked").touch()
    Image.new("L", (2, 60_000)).save(tmp_path / "long.png")
    edits = [{"target": "red hair", "target_scale": 8}]
    for bad, message in [
        ({"sketch": str(tmp_path / "text.png")}, "text.png: not a readable image"),
        ({"sketch": str(tmp_path / "none.png")}, "none.png cannot be read"),
        ({"sketch": str(tmp_path / "long.png"), "size": 256}, "would be coloured at 256 x 7680000 pixels"),
        ({"start": "/dev/null"}, "/dev/null is no file"),
        ({"checkpoint": "nowhere"}, "There is no nowhere/model.json"),
        ({"output": str(tmp_path / "blocked/a.png")}, "blocked/a.png cannot be written"),
        ({"sampler": pair["sampler"] | {"sigmas": "cosine"}}, "cosine"),
        ({"precision": "fp12"}, "precision is 'fp12'"),
        ({"device": "abacus"}, "There is no device 'abacus' here: give device=cpu"),
        ({"edits": str(tmp_path / "none.yaml")}, "none.yaml cannot be read"),
        ({"edits": str(tmp_path / "sketch.png")}, "sketch.png is no YAML"),
        ({"start": pair["reference"], "start_strength": 0}, "start_strength is 0; it must be above 0"),
        ({"style": pair["style"] | {"adain": ["left"]}}, "style.adain has left; the blocks are down.0"),
        ({"strength": [1, 2]}, "strength has 2 numbers"),
        ({"edits": edits}, 'Edit 1: local edits need a control: a text that says where, or "everything"'),
        ({"edits": [{"target": "red hair"}]}, "Edit 1: it lacks target_scale"),
    ]:
        with pytest.raises(UserError, match=message):
            colorize(pair | bad)
        assert not Path(pair["output"]).exists()


def test_a_checkpoint_of_another_backbone_is_refused(trained: Path, backbone_directory: Path) -> None:
    from src.model.colorizer import load_colorizer
    from src.weights import WeightsError

    with pytest.raises(WeightsError, match="was trained on the backbone"):
        load_colorizer(trained / "model", "another")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12), st.sampled_from(PATHS))
def test_hydra_reads_every_path_as_it_was(path: str, key: str) -> None:
    (override,) = OverridesParser.create().parse_overrides(quoted([f"{key}={path}"], PATHS))
    assert str(override.value()).replace("\\${", "${") == path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("my edits, [1].yaml", "my edits, [1].yaml"),
        ("[1]/edits.yaml", "[1]/edits.yaml"),
        ('[{target: "red hair", control: hair, target_scale: 8}]', [{"target": "red hair", "control": "hair", "target_scale": 8}]),
        ("[]", []),
        ("null", None),
    ],
)
def test_edits_are_a_list_or_a_path(value: str, expected: Any) -> None:
    (override,) = OverridesParser.create().parse_overrides(quoted([f"edits={value}"], PATHS, PATHS_OR_LISTS))
    found = override.value()
    assert (str(found) if isinstance(expected, str) else found) == expected
