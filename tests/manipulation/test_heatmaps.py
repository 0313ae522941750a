"""Maps and zones at the reference's size, and their pictures."""

import numpy as np
import pytest
import torch

from src.manipulation.algorithms import zones
from src.manipulation.heatmaps import correlation_array, correlation_picture, jet, zone_array, zone_colours, zone_picture

BLUE, LIGHT_BLUE, GREEN, ORANGE, RED = [0, 0, 128], [0, 128, 255], [128, 255, 128], [255, 128, 0], [128, 0, 0]
M = torch.tensor([0.0, 0.52, 0.6, 1.0])


def test_the_map_at_the_size_of_the_reference() -> None:
    expected = np.repeat(np.repeat(np.array([[0, 0.52], [0.6, 1]], np.float32), 3, 0), 2, 1)
    result = correlation_array(M, (6, 4))
    assert result.dtype == np.float32 and np.array_equal(result, expected)


def test_the_zones_at_the_size_of_the_reference() -> None:
    result = zone_array(M, (2, 4))
    assert result.dtype == np.uint8 and result.tolist() == [[0, 0, 1, 1], [2, 2, 4, 4]]
    assert zone_array(M, (2, 2), (0.7, 0.8, 0.9, 1)).tolist() == [[0, 0], [0, 3]]


@pytest.mark.parametrize(("height", "width"), [(5, 7), (16, 16), (47, 31), (3, 2)])
def test_a_pixel_has_the_zone_of_the_token_that_its_centre_lies_in(height: int, width: int) -> None:
    m = torch.rand(256, generator=torch.Generator().manual_seed(0))
    own = zones(m).view(16, 16)
    result = zone_array(m, (height, width))
    for y in range(height):
        for x in range(width):
            assert result[y, x] == own[int((y + 0.5) * 16 / height), int((x + 0.5) * 16 / width)]


def test_a_grid_that_is_not_square() -> None:
    assert zone_array(M[:2], (1, 2), grid=(1, 2)).tolist() == [[0, 1]]
    assert correlation_array(M[:2], (2, 1), grid=(2, 1)).tolist() == [[0], [pytest.approx(0.52)]]


def test_the_zones_go_from_blue_to_red() -> None:
    assert zone_colours().tolist() == [BLUE, LIGHT_BLUE, GREEN, ORANGE, RED]
    assert jet(np.array([0.125, 0.375, 0.625, 0.875])).tolist() == [[0, 0, 255], [0, 255, 255], [255, 255, 0], [255, 0, 0]]


@pytest.mark.parametrize("picture", [zone_picture, correlation_picture])
def test_pictures_over_the_reference(picture) -> None:
    reference = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    kept = reference.copy()
    assert np.array_equal(picture(reference, M, opacity=0), reference)
    full = picture(reference, M, opacity=1)
    assert full.dtype == np.uint8 and full.shape == reference.shape
    assert full[0, 0].tolist() == BLUE and full[-1, -1].tolist() == RED
    mixed = np.round(np.float32(0.3) * reference + np.float32(0.7) * full)
    assert np.abs(picture(reference, M) - mixed).max() <= 1
    assert np.array_equal(reference, kept)


def test_pictures_show_their_own_map() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    assert zone_picture(white, M, opacity=1).tolist() == [[BLUE, LIGHT_BLUE], [GREEN, RED]]
    assert zone_picture(white, M, (0, 0, 0, 1), opacity=1).tolist() == [[BLUE, ORANGE], [ORANGE, ORANGE]]
    assert np.array_equal(correlation_picture(white, M, opacity=1), jet(correlation_array(M, (2, 2))))


def test_what_cannot_be_drawn() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    with pytest.raises(ValueError, match=r"got \[3\] on 2 x 2"):
        correlation_picture(white, M[:3])
    with pytest.raises(ValueError, match=r"got \[2, 4\] on 2 x 4"):
        zone_array(M.expand(2, 4), (2, 2), grid=(2, 4))
    with pytest.raises(ValueError, match=r"opacity needs to be in \[0, 1\], got 2"):
        zone_picture(white, M, opacity=2)
    for wrong in (white[..., 0], white.astype(np.float32), white[..., :2]):
        with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
            zone_picture(wrong, M)
