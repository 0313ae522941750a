import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.metrics.palette import (
    PROJECTIONS,
    QUANTILES,
    closer_share,
    coloured,
    lab,
    palette_distance,
    palette_signature,
    wilson_interval,
)

colours = st.tuples(*[st.integers(0, 255)] * 3)


def plain(*fills: tuple[int, int, int], height: int = 16) -> np.ndarray:
    """Vertical bands of the fills, with paper around and lines of ink between."""
    image = np.full((height, 4 + 8 * len(fills), 3), 255, np.uint8)
    for i, fill in enumerate(fills):
        image[2:-2, 2 + 8 * i : 8 + 8 * i] = fill
        image[2:-2, 2 + 8 * i] = 0
    return image


# Bruce Lindbloom's values for sRGB and D65, and the grey of lightness 53.585.
@pytest.mark.parametrize(
    ("rgb", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((128, 128, 128), (53.585, 0, 0)),
    ],
)
def test_known_colours(rgb, expected):
    np.testing.assert_allclose(lab(np.array(rgb, np.uint8)), expected, atol=0.02)


@given(st.integers(0, 254), st.integers(1, 255))
def test_greys_have_no_chroma_and_grow_lighter(a, b):
    a, b = sorted((a, b)) if a != b else (a, a + 1)
    values = lab(np.array([[a] * 3, [b] * 3], np.uint8))
    np.testing.assert_allclose(values[:, 1:], 0, atol=1e-3)
    assert values[0, 0] < values[1, 0]


def test_paper_and_ink_are_left_out_and_fills_of_grey_are_not():
    image = np.array([[255, 255, 255], [250, 250, 250], [0, 0, 0], [30, 30, 30], [128] * 3, [60] * 3, [255, 250, 220]], np.uint8)
    assert coloured(lab(image)).tolist() == [False, False, False, False, True, True, True]


@settings(max_examples=40)
@given(st.lists(colours, min_size=1, max_size=4), st.lists(colours, min_size=1, max_size=4))
def test_it_is_a_distance_whatever_the_fills(a, b):
    d = palette_distance(plain(*a), plain(*b))
    assert np.isfinite(d) and d >= 0
    assert palette_distance(plain(*a), plain(*a)) == 0
    assert palette_distance(plain(*b), plain(*a)) == pytest.approx(d)


def test_the_place_and_the_number_of_pixels_do_not_matter():
    red, blue = (220, 30, 40), (30, 60, 200)
    a = plain(red, blue)
    assert palette_distance(a, a[:, ::-1]) == 0
    assert palette_distance(a, plain(blue, red, height=60)) == 0
    assert palette_distance(a, plain(red)) > 10


def test_nearer_colours_are_nearer():
    red = plain((220, 30, 40))
    distances = [palette_distance(red, plain(fill)) for fill in [(220, 30, 40), (230, 60, 50), (240, 150, 40), (30, 60, 200)]]
    assert distances == sorted(distances) and distances[0] == 0 and distances[1] > 1


@given(colours, colours)
def test_two_plain_colours_are_half_their_difference_apart(a, b):
    pair = lab(np.array([a, b], np.uint8))
    assume(coloured(pair).all())
    distance = palette_distance(plain(a), plain(b))
    assert distance == pytest.approx(np.linalg.norm(pair[0] - pair[1]) / 2, rel=0.05)


def test_an_image_without_colours_is_white():
    lines = plain((0, 0, 0))
    blank = np.full((5, 5, 3), 255, np.uint8)
    assert palette_distance(lines, blank) == 0
    red = plain((220, 30, 40))
    assert palette_distance(lines, red) == palette_distance(blank, red) > 10


def test_a_mask_chooses_the_pixels():
    image = plain((220, 30, 40), (30, 60, 200))
    left = np.zeros(image.shape[:2], bool)
    left[:, :10] = True
    assert palette_distance(image, plain((220, 30, 40)), mask_a=left) == 0
    assert palette_distance(image, plain((30, 60, 200)), mask_a=~left) == 0
    assert palette_distance(image, np.full((2, 2, 3), 255, np.uint8), mask_a=left & ~left) == 0


def test_the_distance_is_the_mean_difference_of_signatures():
    a, b = plain((220, 30, 40), (250, 200, 0)), plain((30, 60, 200))
    s, t = palette_signature(a), palette_signature(b)
    assert s.shape == (PROJECTIONS * QUANTILES,) and s.dtype == np.float32
    assert np.abs(s - t).mean() == pytest.approx(palette_distance(a, b))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)])
def test_other_images_are_refused(wrong):
    with pytest.raises(ValueError, match="uint8"):
        palette_signature(wrong)


def test_other_masks_are_refused():
    with pytest.raises(ValueError, match="mask"):
        palette_signature(np.zeros((4, 4, 3), np.uint8), np.ones((4, 5), bool))


def test_results_in_their_references_colours_are_always_closer():
    rng = np.random.default_rng(0)
    references = [plain(*(tuple(fill) for fill in rng.integers(40, 240, (3, 3)))) for _ in range(30)]
    share, low, high = closer_share(references, references)
    assert share == high == 1 and 0.85 < low < 1
    wrong = closer_share(references[1:] + references[:1], references, others=40)
    assert wrong[0] < 0.75 and wrong[1] < wrong[0] < wrong[2]
    assert closer_share(references, references[::-1], seed=3) == closer_share(references, references[::-1], seed=3)


def test_results_of_one_colour_are_at_chance_and_ties_count_half():
    rng = np.random.default_rng(1)
    references = [plain(tuple(fill)) for fill in rng.integers(40, 240, (60, 3))]
    share, low, high = closer_share([plain((128, 128, 128))] * 60, references, others=59)
    assert share == pytest.approx(0.5) and low < 0.5 < high
    assert closer_share(references[:5], [references[0]] * 5)[0] == 0.5


def test_shares_need_pairs():
    for results, references, others in (([plain((1, 2, 3))], [plain((1, 2, 3))], 1), ([], [], 1)):
        with pytest.raises(ValueError, match=r"pairs.*\.$"):
            closer_share(results, references, others=others)


def test_wilsons_interval():
    assert wilson_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
