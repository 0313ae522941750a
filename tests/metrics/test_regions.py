"""Regions and their leakage on drawings whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.metrics.palette import lab
from src.metrics.regions import FLOOR, artists_regions, closed_regions, countable, leakage, of_one_colour


def box(gap: int) -> np.ndarray:
    """A square of 20 px in the middle of 40, its upper side open over `gap` pixels."""
    sketch = np.full((40, 40), 255, np.uint8)
    sketch[10:30, [10, 29]] = sketch[[10, 29], 10:30] = 0
    sketch[10, 20 - gap // 2 : 20 - gap // 2 + gap] = 255
    return sketch


@pytest.mark.parametrize(("gap", "separate"), [(0, True), (2, True), (4, True), (12, False)])
def test_gaps_are_closed(gap: int, separate: bool) -> None:
    regions = closed_regions(box(gap))
    assert (regions[20, 20] != regions[3, 3]) == separate
    assert (regions[box(gap) < 128] == 0).all() and (regions[box(gap) >= 128] > 0).all()
    inside = regions[13:27, 13:27]
    assert (inside == inside[0, 0]).all()


def test_thin_regions_are_regions_too() -> None:
    sketch = np.full((30, 30), 255, np.uint8)
    sketch[:, [10, 13]] = 0
    regions = closed_regions(sketch)
    assert len({int(regions[5, x]) for x in (5, 11, 20)}) == 3
    assert len(closed_regions(np.zeros((5, 5), np.uint8)).nonzero()[0]) == 0
    assert (closed_regions(np.full((5, 5), 255, np.uint8)) == 1).all()


def halves(left: int, right: int, leak: int = 0) -> np.ndarray:
    """Two regions of 15 x 30 pixels as Lab greys, the first `leak` columns of the right one in the left one's."""
    image = np.zeros((30, 30, 3))
    image[:, :15, 0], image[:, 15:, 0] = left, right
    image[:, 15 : 15 + leak, 0] = left
    return image


TWO = countable(np.repeat(np.where(np.arange(30) < 15, 1, 2)[None], 30, 0).astype(np.int32))


def test_leakage_is_the_share_of_the_deviation_within_regions() -> None:
    assert leakage(halves(20, 80), TWO) == 0
    mixed = halves(20, 80, leak=8)
    pixels = mixed[..., 0].ravel()[TWO.places]
    within = np.mean([pixels[TWO.members == i].var() for i in (0, 1)])  # of equal sizes
    assert leakage(mixed, TWO) == pytest.approx(np.sqrt(within / (pixels.var() + FLOOR**2)))
    assert 0 < leakage(halves(20, 80, leak=3), TWO) < leakage(halves(20, 80, leak=6), TWO) < 1


@given(st.integers(1, 6), st.integers(0, 100), st.integers(0, 100))
def test_uniform_regions_never_leak_whatever_their_colours(seed: int, left: int, right: int) -> None:
    assert leakage(halves(left, right), TWO) == pytest.approx(0, abs=1e-6)
    noise = np.random.default_rng(seed).normal(0, 30, (30, 30, 3))
    assert 0.9 < leakage(noise, TWO) < 1


def test_borders_and_tiny_regions_do_not_count() -> None:
    image = halves(20, 80)
    image[:, 14:16] = 50
    assert leakage(image, TWO) == 0
    regions = np.ones((30, 30), np.int32)
    regions[10:14, 10:14] = 2  # 2 x 2 pixels beside its borders
    assert len(countable(regions).sizes) == 1 and math.isnan(leakage(image, countable(regions)))


def test_pixels_of_another_colour_than_their_regions_are_left_out() -> None:
    regions = np.repeat(np.where(np.arange(30) < 15, 1, 2)[None], 30, 0).astype(np.int32)
    truth = halves(20, 80, leak=4)
    assert leakage(truth, countable(regions)) > 0.3
    kept = of_one_colour(regions, truth)
    assert leakage(truth, countable(kept)) == 0 and (kept[:, 15:19] == 0).all() and (kept[:, 19:] == 2).all()


def test_closed_regions_agree_with_the_artists_own(drawings) -> None:
    """A drawing's own colours leak in neither; another drawing's colours leak in both alike."""
    own, others = [], []
    for drawing, other in zip(drawings, drawings[1:] + drawings[:1], strict=True):
        closed = countable(of_one_colour(closed_regions(drawing.line), lab(drawing.color)))
        artists = countable(artists_regions(drawing.regions, drawing.line))
        own.append([leakage(lab(drawing.color), regions) for regions in (closed, artists)])
        others.append([leakage(lab(other.color), regions) for regions in (closed, artists)])
    assert np.nanmax(np.array(own)[:, 0]) < 0.15 and np.nanmean(np.array(own)[:, 1]) < 0.1
    a, b = np.nanmean(others, axis=0)
    assert a > 0.5 and abs(a - b) < 0.15
