"""Means, intervals and charts of simulated volunteers whose opinions are known."""

import random
import xml.etree.ElementTree as ET
from collections.abc import Callable

import numpy as np
import pytest

from src.app.rating_charts import bars, means, models, radar, shares, table
from src.app.study import NAMES, Item, Rating


def simulated(volunteers: int, pages: int, score: Callable[[int, str, str], float]) -> list[Rating]:
    items = [
        Item(f"pair{i}", model, "", "", "", "x" if model != "T2I" else None) for i in range(pages) for model in ("A", "B", "T2I")
    ]
    return [
        Rating(who, item, {q: round(min(5, max(1, score(who, item.model, q)))) for q in item.questions}, "")
        for who in range(1, volunteers + 1)
        for item in items
    ]


def test_means_and_shares_are_those_of_the_answers() -> None:
    rows = simulated(4, 1, lambda who, model, question: who if model == "A" else 5)
    assert means(rows, "Quality")["A"][0] == 2.5 and means(rows, "Quality")["B"] == (5, 5, 5)
    assert [share for share, _, _ in shares(rows, "Quality")["A"]] == [0.25, 0.25, 0.25, 0.25, 0]
    assert set(means(rows, "Controllability")) == {"A", "B"} and set(means(rows, "Usability")) == {"A", "B", "T2I"}
    assert table(rows)[2] == ["T2I", "4", *["5.00 [5.00, 5.00]"] * 3, "not asked"]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Volunteers differ in how strict they are, so that their answers are no independent trials: one of 20 answers is not 20."""
    held = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        strict = rng.integers(-1, 2, 17)  # -1, 0 or 1: the true mean is 3
        _, low, high = means(simulated(16, 10, lambda who, *_, s=strict, r=rng: 3 + s[who] + r.integers(-1, 2)), "Quality")["A"]
        held += low <= 3 <= high
    assert 0.85 <= held / 60 <= 1  # intervals over answers would hold it in some 45 %


def test_one_volunteer_has_means_and_no_intervals() -> None:
    rows = simulated(1, 2, lambda *_: 3)
    assert table(rows)[0][2] == "3.00"
    radar(rows)
    bars(rows)


@pytest.mark.parametrize("chart", [radar, bars])
def test_charts_are_whole_svg_files_the_same_every_time(chart: Callable[[list[Rating]], str]) -> None:
    noise = random.Random(0)
    rows = simulated(5, 2, lambda *_: noise.uniform(1, 5))
    svg = chart(rows)
    assert svg == chart(rows) and ET.fromstring(svg).tag.endswith("svg")
    assert all(name in svg for name in (*NAMES, *models(rows)))
