import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from src.data.lines import gaussian, xdog
from src.data.openmoji import drawings, render


def test_white_paper_has_no_lines():
    assert (xdog(np.full((20, 30, 3), 255, np.uint8)) == 255).all()


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_flat_area_of_any_colour_has_no_lines(colour: tuple[int, int, int]):
    assert (xdog(np.full((16, 16, 3), colour, np.uint8)) == 255).all()


@pytest.mark.parametrize("paper", [(255, 255, 255), (252, 234, 43), (146, 211, 245), (165, 121, 57)])
def test_a_black_line_is_found_within_a_pixel(paper: tuple[int, int, int]):
    image = np.full((40, 50, 3), paper, np.uint8)
    image[:, 20:22] = 0
    line = xdog(image)
    assert (line[:, 20:22] < 64).all()
    assert (line[:, :19] == 255).all()
    assert (line[:, 23:] == 255).all()


def test_a_large_black_area_is_outlined_and_not_filled():
    image = np.full((48, 48, 3), 255, np.uint8)
    image[8:40, 8:40] = 0
    line = xdog(image)
    assert (line[14:34, 14:34] == 255).all()
    assert (line[8, 10:38] < 64).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.2, 6), st.integers(0, 99))
def test_the_blur_is_scipys(height: int, width: int, sigma: float, seed: int):
    values = np.random.default_rng(seed).random((height, width), np.float32)
    assert gaussian(values, sigma) == pytest.approx(gaussian_filter(values, sigma, mode="nearest"), abs=1e-6)


def test_shape_type_and_the_same_bytes_again():
    image = np.random.default_rng(0).integers(0, 256, (17, 31, 3), dtype=np.uint8)
    before = image.copy()
    first = xdog(image)
    assert (first.shape, first.dtype) == ((17, 31), np.uint8)
    assert np.array_equal(first, xdog(image))
    assert np.array_equal(image, before)


def test_lines_resemble_the_artists_own():
    renderings = [render(drawing, 1, 64, 0) for drawing in drawings()[::150]]
    difference = np.mean([np.abs(xdog(r.color).astype(float) - r.line).mean() for r in renderings])
    blank = np.mean([(255 - r.line.astype(float)).mean() for r in renderings])
    assert difference < 0.5 * blank


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_other_images_are_refused(image: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        xdog(image)


@pytest.mark.parametrize("sizes", [{"sigma": 0.0}, {"k": 1.0}])
def test_widths_that_make_no_difference_of_gaussians_are_refused(sizes: dict[str, float]):
    with pytest.raises(ValueError, match="sigma"):
        xdog(np.zeros((8, 8, 3), np.uint8), **sizes)
