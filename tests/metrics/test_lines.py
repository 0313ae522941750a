"""Sketch fidelity on lines whose errors are known, and on real drawings."""

import math

import numpy as np
import pytest

from src.data.lines import xdog
from src.metrics.lines import Lines, line_error, lines_of_result, lines_of_sketch, sketch_fidelity, spurious, vanished


def lines(*columns: int, height: int = 20) -> Lines:
    image = np.full((height, 20), 255, np.uint8)
    image[:, list(columns)] = 0
    return lines_of_sketch(image)


def test_errors_are_shares_of_line_pixels() -> None:
    sketch = lines(4, 12)
    assert spurious(sketch, sketch) == vanished(sketch, sketch) == line_error(sketch, sketch) == 0
    half = lines(4, 8)  # one line right, one wrong
    assert spurious(half, sketch) == vanished(half, sketch) == line_error(half, sketch) == 0.5
    assert (spurious(lines(4), sketch), vanished(lines(4), sketch)) == (0, 0.5)
    assert (spurious(lines(4, 8, 12, 16), sketch), vanished(lines(4, 8, 12, 16), sketch)) == (0.5, 0)
    assert line_error(lines(8), sketch) == 1


@pytest.mark.parametrize(("shift", "error"), [(0, 0), (1, 0), (2, 1)])
def test_a_line_may_be_off_by_the_tolerance(shift: int, error: float) -> None:
    assert line_error(lines(4 + shift), lines(4)) == error


def test_what_has_no_lines() -> None:
    empty, sketch = lines(), lines(4)
    assert math.isnan(spurious(empty, sketch)) and vanished(empty, sketch) == line_error(empty, sketch) == 1
    assert math.isnan(vanished(sketch, empty)) and math.isnan(line_error(sketch, empty)) and spurious(sketch, empty) == 1


def test_ink_is_found_and_borders_between_colours_are_not() -> None:
    image = np.full((32, 32, 3), 255, np.uint8)
    image[:, 8:20], image[:, 20:28] = (240, 200, 40), (60, 140, 220)
    image[:, 7:9] = 0
    assert set(np.nonzero(lines_of_result(image).mask)[1]) <= {6, 7, 8, 9}
    assert lines_of_result(image).mask[:, 7:9].all()


def test_a_drawing_has_its_own_sketchs_lines(drawings) -> None:
    fidelity = sketch_fidelity([d.color for d in drawings], [xdog(d.color) for d in drawings])
    assert (fidelity["fidelity"] == 1).all() and (fidelity["spurious"] == 0).all() and (fidelity["vanished"] == 0).all()
    wrong = sketch_fidelity([d.color for d in drawings], [d.line for d in drawings[1:] + drawings[:1]])
    assert wrong["fidelity"].mean() < 0.5


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 3), np.uint8)])
def test_other_sketches_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        lines_of_sketch(wrong)
