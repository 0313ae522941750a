"""Text response on pictures whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.palette import FAMILIES, to_rgb
from src.metrics.palette import lab
from src.metrics.text_response import TOLERANCE, colour_distance, colour_name, monotone, text_response

REGIONS = np.zeros((16, 16), np.uint8)
REGIONS[:, 4:8], REGIONS[:, 8:12] = 1, 2
INK = np.zeros((16, 16), bool)
INK[:, 6:8] = True
RED, BLUE, YELLOW = (to_rgb(FAMILIES[name][0]) for name in ("red", "blue", "yellow"))


def picture(first: tuple[int, int, int], second: tuple[int, int, int], ink: int = 0) -> np.ndarray:
    image = np.full((16, 16, 3), 255, np.uint8)
    image[REGIONS == 1], image[REGIONS == 2] = first, second
    image[INK] = ink
    return image


@pytest.mark.parametrize("name", FAMILIES)
def test_the_palettes_own_shades_have_their_names(name: str) -> None:
    for shade in FAMILIES[name]:
        colour = lab(np.array(to_rgb(shade), np.uint8))
        assert colour_distance(colour, name) < 1e-3 and colour_name(colour) == name


def test_a_perfect_edit() -> None:
    # The lines turn white, which must not count.
    response = text_response(picture(RED, YELLOW), picture(BLUE, YELLOW, ink=255), REGIONS, INK, 1, "blue")
    expected = np.sqrt(((lab(np.array([RED], np.uint8)) - lab(np.array([BLUE], np.uint8))) ** 2).sum())
    assert response["closer"] == response["named"] == 1 and response["distance"] == pytest.approx(0, abs=1e-4)
    assert response["region"] == pytest.approx(expected, rel=1e-5)
    assert response["others"] == response["background"] == 0


def test_an_edit_of_the_wrong_region() -> None:
    response = text_response(picture(RED, YELLOW), picture(RED, BLUE), REGIONS, INK, 1, "blue")
    assert response["closer"] == response["named"] == response["region"] == response["background"] == 0
    assert response["distance"] == response["distance_before"] > 0 and response["others"] > 50


def test_the_wrong_way_and_no_other_region() -> None:
    only = np.where(REGIONS == 1, 1, 0).astype(np.uint8)
    only[0, 15] = 2  # one pixel is no other region to speak of
    response = text_response(picture(BLUE, RED), picture(YELLOW, RED), only, INK, 1, "blue")
    assert response["closer"] == 0 and response["distance_before"] < response["distance"]
    assert math.isnan(response["others"]) and response["background"] == 0


def test_what_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        text_response(picture(RED, BLUE), picture(RED, BLUE), REGIONS, INK, 3, "red")
    with pytest.raises(ValueError, match="of one size"):
        text_response(picture(RED, BLUE), picture(RED, BLUE), REGIONS[:8], INK, 1, "red")


def test_monotone_within_the_tolerance() -> None:
    series = [[9, 7, 5], [9, 7, 7 + 0.9 * TOLERANCE], [9, 7, 9.5], [9, 10, 11.5]]  # the last rises twice by less, together by more
    assert monotone(series).tolist() == [True, True, False, False]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_falling_series_are_monotone(values: list[float]) -> None:
    assert monotone([sorted(values, reverse=True)], 0).all()
    assert monotone([values], 0).all() == (values == sorted(values, reverse=True))
