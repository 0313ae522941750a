"""Text response on pictures whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.palette import FAMILIES, to_rgb
from src.metrics.palette import lab
from src.metrics.text_response import TOLERANCE, colour_distance, colour_name, directional_similarity, monotone, text_response

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


def test_an_image_that_moves_as_the_words_do() -> None:
    rng = np.random.default_rng(0)
    source, target = np.eye(8)[:2]
    way = target - source
    before = rng.normal(size=(5, 8))
    across = np.eye(8)[2]
    before[:, :3] = 0  # at unit length a small step loses what lies along the picture itself
    before /= np.linalg.norm(before, axis=-1, keepdims=True)
    after = before + 0.01 * np.array([way, -way, across, 100 * way, 0 * way])
    values = directional_similarity(2 * before, 5 * after, source, 7 * target)
    np.testing.assert_allclose(values[:3], [1, -1, 0], atol=0.01)
    assert 0.5 < values[3] < 1 and np.isnan(values[4])


def test_directions_by_row_and_by_formula() -> None:
    rng = np.random.default_rng(1)
    before, after, source, target = rng.normal(size=(4, 6, 16))
    together = directional_similarity(before, after, source, target)
    for i in range(6):
        a, b, s, t = (x[i] / np.linalg.norm(x[i]) for x in (before, after, source, target))
        expected = (b - a) @ (t - s) / np.linalg.norm(b - a) / np.linalg.norm(t - s)
        assert together[i] == pytest.approx(expected)
        assert directional_similarity(before[i : i + 1], after[i : i + 1], source[i], target[i])[0] == pytest.approx(expected)
    assert np.isnan(directional_similarity(before, after, source, source)).all()
    for wrong in ((before, after, source[:2], target[:2]), (before[0], after[0], source[0], target[0])):
        with pytest.raises(ValueError, match="words"):
            directional_similarity(*wrong)
