"""Plots of the text manipulation, on drawings and with the shipped CLIP."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.backbone.parts import load_backbone
from src.config import compose
from src.data.columns import read_index, shard_keys
from src.data.palette import to_rgb
from src.figures import make
from src.figures.drawings import Drawing, drawings
from src.figures.plots import covered, dscale, painted
from src.files import UserError
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def person(data_root: Path) -> tuple[Drawing, int]:
    """A drawing with a large region that is not red, and the number of this region."""
    keys = [key for shard in shard_keys(read_index(data_root / "val/color")) for key in shard]
    for drawing in drawings(data_root, keys).values():
        assert drawing.regions is not None
        for region, words in enumerate(drawing.parts, 1):
            if "red" not in words and (drawing.regions == region).mean() > 0.1:
                return drawing, region
    raise AssertionError


def test_one_region_is_painted(person: tuple[Drawing, int]) -> None:
    drawing, region = person
    image, inside = painted(drawing, region, "#d22f27"), drawing.regions == region
    assert (image[inside] == to_rgb("#d22f27")).all() and np.array_equal(image[~inside], drawing.color[~inside])
    with pytest.raises(UserError, match=f"has no region {len(drawing.parts) + 1}: it has {len(drawing.parts)}, "):
        painted(drawing, len(drawing.parts) + 1, "#d22f27")
    unknown = Drawing("a", drawing.sketch, drawing.color, None, ())
    with pytest.raises(UserError, match="a has no regions"):
        painted(unknown, 1, "#d22f27")


def test_what_is_painted_red_comes_nearer_to_red(person: tuple[Drawing, int]) -> None:
    drawing, region = person
    backbone = load_backbone({"directory": ROOT / "backbone/demo"})
    a = painted(drawing, region, "#d22f27")
    change, (after, before) = dscale(backbone, a, drawing.color, "red")
    inside = covered(drawing.regions == region, change.shape)
    assert change.shape == (8, 8) and after > before
    assert change[inside].mean() > change[~inside].mean() + 2
    back, ends = dscale(backbone, drawing.color, a, "red")
    assert np.allclose(back, -change, atol=1e-4) and ends == pytest.approx((before, after), abs=1e-4)


def test_tokens_are_covered_by_their_own_pixels() -> None:
    mask = np.zeros((64, 32), bool)
    mask[8:15, 4:5] = True  # 7 of the 32 pixels of the token in the second row and column of eight by eight
    assert np.argwhere(covered(mask, (8, 8))).tolist() == [[1, 1]]
    mask[8, 4] = False
    assert not covered(mask, (8, 8)).any()
    with pytest.raises(ValueError, match="cannot be divided into 7 x 8"):
        covered(mask, (7, 8))


@pytest.mark.parametrize("figure", ["fig8", "fig9"])
def test_plots_are_drawn(figure: str, person: tuple[Drawing, int], data_root: Path, tmp_path: Path) -> None:
    drawing, region = person
    example = f"{{key: '{drawing.key}', region: {region}, paint: '#d22f27', text: red}}"
    own: list[Any] = [f"figure.examples=[{example}]"] if figure == "fig8" else []
    places = [f"backbone.directory={ROOT / 'backbone/demo'}", f"data.root={data_root}", f"out={tmp_path}"]
    png, _, _ = make(compose([f"figure={figure}", *own, *places], "figures"))
    picture = np.asarray(Image.open(png))
    assert picture.shape[1] > 1000 and (picture < 250).any(-1).mean() > 0.02
