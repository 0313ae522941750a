"""Nearness and its chance level, and what the one number says of results whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.lines import xdog
from src.metrics.separation import feature_transfer, nearness, palettes, rivals, separation, structure_of


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=8))
def test_a_random_reference_is_exactly_at_chance(distances: list[float]) -> None:
    """Whichever of the references is the own one with equal chances, nearness is 0 on average."""
    turns = [np.roll(distances, shift) for shift in range(len(distances))]
    assert nearness(turns).mean() == pytest.approx(0, abs=1e-9)


def test_nearness_knows_its_ends() -> None:
    values = nearness([[0, 1, 3], [2, 2, 2], [4, 1, 1], [0, 0, 0], [np.nan, 1, 1]])
    np.testing.assert_allclose(values, [1, 0, -1, np.nan, np.nan])


@given(st.lists(st.sampled_from("abcde"), min_size=2, max_size=30).filter(lambda names: len(set(names)) > 1), st.integers(1, 6))
def test_rivals_are_of_other_drawings(names: list[str], others: int) -> None:
    places = rivals(names, others)
    assert 1 <= places.shape[1] <= others and np.array_equal(places, rivals(names, others))
    for i, row in enumerate(places.tolist()):
        assert len(set(row)) == len(row) and all(names[j] != names[i] for j in row)


@pytest.mark.parametrize(("names", "others"), [(["a", "a"], 4), ([], 4), (["a", "b"], 0)])
def test_rivals_need_others(names: list[str], others: int) -> None:
    with pytest.raises(ValueError, match="two or more drawings"):
        rivals(names, others)


def test_feature_transfer_is_by_direction() -> None:
    wanted = np.eye(4)
    others = rivals(range(4), 3)
    np.testing.assert_allclose(feature_transfer(5 * wanted, wanted, others), 1, atol=1e-9)
    np.testing.assert_allclose(feature_transfer(np.ones((4, 4)), wanted, others), 0, atol=1e-9)
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        feature_transfer(np.eye(4), np.eye(3), others)


def test_the_ends_of_separation(drawings) -> None:
    """References that have the colours of the truth in another place: the truth is best, each way of failing gives about 0."""
    colors = [d.color for d in drawings]
    references = [color[::-1].copy() for color in colors]  # upside down: same palette, other structure
    structures = [structure_of(xdog(color), color) for color in colors]
    others = rivals(range(len(drawings)))
    truth = separation(colors, structures, palettes(references), others)
    assert truth["separation"] == pytest.approx(1, abs=0.15) and truth["leakage"][~np.isnan(truth["leakage"])].max() < 0.15
    white = [np.repeat(xdog(color)[..., None], 3, -1) for color in colors]
    ignored = separation(white, structures, palettes(references), others)
    assert ignored["structure"].mean() > 0.95 and abs(ignored["separation"].mean()) < 0.25
    copied = separation([np.roll(references, -1, 0)[i] for i in range(len(colors))], structures, palettes(references), others)
    assert abs(copied["structure"].mean()) < 0.2 and abs(copied["separation"].mean()) < 0.2


def test_an_unclosed_sketch_is_judged_by_its_lines(drawings) -> None:
    color = drawings[0].color
    sketch = np.full(color.shape[:2], 255, np.uint8)
    sketch[30:32, 20:40] = 0
    open_lines = [structure_of(sketch, np.full_like(color, 255)), structure_of(drawings[1].line, drawings[1].color)]
    results = [np.repeat(sketch[..., None], 3, -1), drawings[1].color]
    values = separation(results, open_lines, palettes([color, drawings[1].color]), rivals("ab"))
    assert np.isnan(values["leakage"][0]) and values["structure"][0] == 1


def test_triples_are_needed(drawings) -> None:
    with pytest.raises(ValueError, match="Triples"):
        separation([drawings[0].color], [], [], rivals("ab"))
