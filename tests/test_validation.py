"""The validation of measures: its made-up results are what they are called, and what the measures say of a few of them."""

import numpy as np
import pytest

from src.data.palette import FAMILIES as COLOURS
from src.data.palette import to_rgb
from src.validation import (
    AS_IS,
    BEST,
    FALLS,
    FAMILIES,
    MIXED,
    RISES,
    SHOULD,
    Drawing,
    behaviour,
    behaviours,
    cases,
    grid,
    held_out,
    measure,
    page,
    result,
    summary,
    tasks,
)


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return held_out(16, 64, 0, 0.12)


def test_drawings_are_held_out_and_have_the_palettes_colours(drawings: list[Drawing]) -> None:
    assert len(drawings) == 16
    shades = np.array([to_rgb(shade) for family in COLOURS.values() for shade in family])
    for drawing in drawings:
        assert np.abs(drawing.colours[:, None] - shades).max(-1).min(1).mean() < 10  # a region may have two shades
        assert len(drawing.areas) == len(drawing.colours) >= 1
        sizes = [area.sum() for area in drawing.areas]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_begin_at_the_best_result_and_leave_it(drawings: list[Drawing], family: str) -> None:
    task = tasks(drawings)[0][1]
    best = result(task, "grey", 0)
    assert np.array_equal(result(task, family, 0), best)
    away = [np.abs(result(task, family, s).astype(int) - best).mean() for s in FAMILIES[family][1]]
    assert away[0] > 0 and away == sorted(away)


def test_the_last_family_ends_at_the_reference(drawings: list[Drawing]) -> None:
    task = tasks(drawings)[1][3]
    assert np.array_equal(result(task, "reference", 1), task.reference())
    assert task.own is not task.other
    with pytest.raises(ValueError, match="no family noise"):
        result(task, "noise", 1)


def test_behaviour_is_named_as_far_as_intervals_tell() -> None:
    base = np.random.default_rng(0).normal(0, 1, 50)
    assert behaviour([base, base + 0.1, base + 0.3]) == RISES
    assert behaviour([base, base - 0.1, base - 0.3]) == FALLS
    assert behaviour([base, base + 0.04, base - 0.04]) == AS_IS
    assert behaviour([base, base + 0.3, base + 0.1]) == MIXED
    assert behaviour([base, base + 0.1, base + 0.1]) == RISES  # does not fall on the way


def test_the_measures_do_what_they_should(drawings: list[Drawing]) -> None:
    """All but colour by CLIP, which needs weights: here its features are the mean colour. The stage has 200 drawings."""
    made = cases(drawings, lambda images: images)
    numbers = measure(drawings, made, lambda images: 255.0 - images.reshape(len(images), -1, 3).mean(1))
    found = behaviours(numbers)
    wrong = {(name, family) for name, asked in SHOULD.items() for family in asked if found[name][family] != asked[family]}
    assert {name for name, _ in wrong} <= {"colour (CLIP)"}
    report = summary(numbers)
    assert report["drawings"] == 16 and len(report["cases"]) == 4 + sum(len(strengths) for _, strengths in FAMILIES.values())
    best = report["cases"][0]
    assert best["family"] == BEST and best["separation"]["low"] <= best["separation"]["mean"] <= best["separation"]["high"]
    text = page(report)
    assert text.count("\n| lines |") == 1 + 4 and "16 held-out drawings" in text
    assert grid(drawings, made, rows=2).shape[1] == 4 + (2 + len(made)) * 68
