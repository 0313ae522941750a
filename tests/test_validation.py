"""The validation of measures: its made-up results are what they are called, and what the measures say of a few of them."""

import numpy as np
import pytest

from src import validation
from src.data.palette import FAMILIES, to_rgb
from src.validation import Drawing, behaviour, cases, choices, held_out, result, tasks


@pytest.fixture(scope="module")
def drawings() -> list[Drawing]:
    return held_out(16, 64, 0, 0.12)


def test_drawings_are_held_out_and_have_the_palettes_colours(drawings: list[Drawing]) -> None:
    assert len(drawings) == 16
    shades = np.array([to_rgb(shade) for family in FAMILIES.values() for shade in family])
    for drawing in drawings:
        assert np.abs(drawing.colours[:, None] - shades).max(-1).min(1).mean() < 10  # a region may have two shades
        assert len(drawing.areas) == len(drawing.colours) >= 1
        sizes = [area.sum() for area in drawing.areas]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("family", validation.FAMILIES)
def test_families_begin_at_the_best_result_and_leave_it(drawings: list[Drawing], family: str) -> None:
    task = tasks(drawings)[0][1]
    best = result(task, "grey", 0)
    assert np.array_equal(result(task, family, 0), best)
    away = [np.abs(result(task, family, s).astype(int) - best).mean() for s in validation.FAMILIES[family][1]]
    assert away[0] > 0 and away == sorted(away)


def test_the_last_family_ends_at_the_reference(drawings: list[Drawing]) -> None:
    task = tasks(drawings)[1][3]
    assert np.array_equal(result(task, "reference", 1), task.reference())
    assert task.own is not task.other
    with pytest.raises(ValueError, match="no family noise"):
        result(task, "noise", 1)


def test_behaviour_is_named_as_far_as_intervals_tell() -> None:
    base = np.random.default_rng(0).normal(0, 1, 50)
    assert behaviour([base, base + 0.1, base + 0.3]) == "rises"
    assert behaviour([base, base - 0.1, base - 0.3]) == "falls"
    assert behaviour([base, base + 0.04, base - 0.04]) == "stays"
    assert behaviour([base, base + 0.3, base + 0.1]) == "mixed"
    assert behaviour([base, base + 0.1, base + 0.1]) == "rises"  # does not fall on the way


def test_the_measures_do_what_they_should(drawings: list[Drawing]) -> None:
    """All but colour by CLIP, which needs weights: here its features are the mean colour. The stage has 200 drawings."""
    made = cases(drawings, lambda images: images)
    numbers = validation.measure(drawings, made, lambda images: 255.0 - images.reshape(len(images), -1, 3).mean(1))
    found = validation.behaviours(numbers)
    wrong = {
        (name, family) for name, asked in validation.SHOULD.items() for family in asked if found[name][family] != asked[family]
    }
    assert {name for name, _ in wrong} <= {"colour (CLIP)"}
    report = validation.summary(numbers, choices(drawings))
    assert report["drawings"] == 16 and len(report["cases"]) == 4 + sum(
        len(strengths) for _, strengths in validation.FAMILIES.values()
    )
    best = report["cases"][0]
    assert best["family"] == "best" and best["separation"]["low"] <= best["separation"]["mean"] <= best["separation"]["high"]
    own, unrelated = ([row[name] for row in report["choices"]["tolerance"]] for name in ("drawing", "reference"))
    assert min(own) > 0.9 and unrelated == sorted(unrelated) and unrelated[-1] < 0.7
    closed = {row["pixels"]: [row[f"closed, cuts {width}"] for width in (0, 3, 5)] for row in report["choices"]["gap"]}
    assert closed[3][0] > 0.8 and all(closed[3][i] > closed[0][i] for i in (1, 2)) and closed[3][1] > closed[3][2]
    text = validation.page(report)
    assert text.count("\n| lines |") == 1 + 4 and "16 held-out drawings" in text
    assert validation.grid(drawings, made, rows=2).shape[1] == 4 + (2 + len(made)) * 68
