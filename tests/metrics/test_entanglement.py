"""Change of structure: colours do not count, shapes do."""

import math

import numpy as np
import pytest

from src.metrics.entanglement import edges, entanglement, structure_change
from src.validation import inked, painted


def test_edges_are_where_colours_change() -> None:
    image = np.full((10, 10, 3), 255, np.uint8)
    assert (edges(image) == 0).all()
    image[:, 5:] = (200, 30, 30)
    drawn = edges(image)
    assert (drawn[:, 4] > 0.95).all() and drawn.sum() == pytest.approx(drawn[:, 4].sum())


def test_other_colours_are_hardly_a_change_and_other_shapes_are(drawings) -> None:
    changes = []
    for drawing, other in zip(drawings, drawings[1:] + drawings[:1], strict=True):
        original, recoloured = (inked(painted(drawing, d.colours), drawing.line) for d in (drawing, other))
        pasted = np.where(np.any(other.areas, axis=0)[..., None], other.color, original)
        changes.append([structure_change(original, image) for image in (original, recoloured, pasted, other.color)])
    same, recoloured, pasted, another = np.mean(changes, axis=0)
    assert same == 0 and recoloured < 0.03 and 0.1 < pasted < another < 1


def test_a_shift_of_one_pixel_is_no_change() -> None:
    image = np.full((20, 20, 3), 255, np.uint8)
    image[5:15, 5:15] = 0
    assert structure_change(image, np.roll(image, 1, 1)) < 0.02 and structure_change(image, np.roll(image, 3, 1)) > 0.2
    assert math.isnan(structure_change(np.zeros_like(image), np.zeros_like(image)))


def test_the_ends_of_entanglement(drawings) -> None:
    by_sketch = np.array([d.color for d in drawings])
    assert (entanglement(np.array([by_sketch, by_sketch, by_sketch])) == 0).all()
    by_reference = np.array([np.roll(by_sketch, shift, 0) for shift in (0, 2, 5)])  # the sketches change nothing
    assert entanglement(by_reference).mean() == pytest.approx(1, abs=0.2)
    half = np.minimum(by_sketch, by_reference)
    assert 0.2 < entanglement(half).mean() < 0.9


@pytest.mark.parametrize("shape", [(1, 4, 8, 8, 3), (2, 1, 8, 8, 3), (2, 4, 8, 8)])
def test_references_and_sketches_are_needed(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Two or more references"):
        entanglement(np.zeros(shape, np.uint8))
