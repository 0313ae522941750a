"""One sketch, one reference, one picture; whatever the paths are called."""

from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.entry import quoted
from src.sample import PATHS, working_size


def test_any_path_and_a_repeatable_picture(command, tmp_path: Path, trained: Path) -> None:
    folder = tmp_path / "my, drawings = [1] (ü) {x} 'q' ${oc.env:HOME}"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray((rng.random((90, 60)) > 0.1).astype(np.uint8) * 255).save(folder / "sketch one.png")
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / "ref.webp")
    for name in ("a.png", "b.png"):
        arguments = [
            f"checkpoint={trained}",
            f"sketch={folder}/sketch one.png",
            f"reference={folder}/ref.webp",
            f"output={folder}/{name}",
        ]
        result = command("src.sample", *arguments, "sampler.steps=3", places=False)
        assert result.returncode == 0, result.stderr
    a, b = (Image.open(folder / name) for name in ("a.png", "b.png"))
    assert a.size == (64, 96) and a.tobytes() == b.tobytes()
    assert "gs: 2" in a.text["colorize.recipe"] and len(a.text["colorize.weights"]) == 64


def test_errors(command, tmp_path: Path, trained: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (9, 9)).save(tmp_path / "ok.png")
    cases = {
        "sketch=text.png": "text.png: not a readable image",
        "sketch=none.png": "none.png cannot be read",
        "checkpoint=nowhere": "There is no nowhere/model.json",
    }
    for bad, message in cases.items():
        given_ = {"checkpoint": str(trained), "sketch": "ok.png", "reference": "ok.png", "output": "out.png"}
        key, _, value = bad.partition("=")
        result = command("src.sample", *(f"{k}={v}" for k, v in (given_ | {key: value}).items()), places=False)
        assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
        assert not (tmp_path / "out.png").exists()


def test_a_checkpoint_of_another_backbone_is_refused(trained: Path, backbone_directory: Path) -> None:
    from src.backbone.parts import WeightsError
    from src.model.colorizer import load_colorizer

    with pytest.raises(WeightsError, match="was trained on the backbone"):
        load_colorizer(trained / "model", "another")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12))
def test_hydra_reads_every_path_as_it_was(path: str) -> None:
    (override,) = OverridesParser.create().parse_overrides(quoted([f"sketch={path}"], PATHS))
    assert str(override.value()).replace("\\${", "${") == path


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_working_sizes_fit_the_network(height: int, width: int) -> None:
    h, w = working_size(height, width, 64, 16)
    assert h % 16 == 0 and w % 16 == 0 and min(h, w) == 64
