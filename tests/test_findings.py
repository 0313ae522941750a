"""Findings on results whose differences are known."""

import numpy as np
import pytest

from src.document import Table
from src.findings import ATTENTION, LEAST, Expectation, difference, findings, verdict

DRAWINGS = [f"drawing {i // 2}" for i in range(LEAST)]
RNG = np.random.default_rng(0)


def model(name: str, separation: float, leakage: float, distance: dict[str, float]) -> dict:
    def noisy(value: float) -> np.ndarray:
        return value + RNG.normal(0, 0.1, LEAST)

    samples = {cell: {"separation": noisy(separation), "leakage": noisy(leakage)} for cell in distance}
    means = {cell: {name: {"value": float(x.mean())} for name, x in column.items()} for cell, column in samples.items()}
    measures = {measure: {cell: means[cell][measure] for cell in distance} for measure in ("separation", "leakage")}
    measures["FD-EffNet"] = {cell: {"value": value, "low": value - 3, "high": value + 3} for cell, value in distance.items()}
    return {"name": name, "images": LEAST, "samples": samples, "measures": measures}


RESULTS = {
    "Shuffle-0": model("Shuffle-0", 0.2, 0.4, {"2": 50.0, "10": 90.0}),
    "Shuffle-0.8": model("Shuffle-0.8", 0.4, 0.4, {"2": 50.0, "10": 52.0}),
    "Noisy-0": model("Noisy-0", 0.2, 0.4, {"2": 50.0, "10": 110.0}),
    "CLS-0": model("CLS-0", 0.3, 0.1, {"2": 50.0, "10": 60.0}),
}


def test_a_rise_of_distances_has_the_interval_of_its_four_numbers() -> None:
    value, low, high = difference(
        RESULTS, Expectation("", "FD-EffNet", "Shuffle-0", "10", "Shuffle-0.8", "10", 1, since="2"), DRAWINGS
    )
    assert value == pytest.approx(38) and (high - low) / 2 == pytest.approx(np.sqrt(4 * 3**2))


def test_values_of_pictures_are_compared_picture_by_picture() -> None:
    both = [RESULTS[name]["samples"]["10"]["separation"] for name in ("Shuffle-0", "Shuffle-0.8")]
    value, low, high = difference(RESULTS, Expectation("", "separation", "Shuffle-0", "10", "Shuffle-0.8", "10", -1), DRAWINGS)
    assert value == pytest.approx((both[0] - both[1]).mean()) and low < value < high < 0
    assert difference(RESULTS, Expectation("", "colour", "Shuffle-0", "10", "Shuffle-0.8", "10", -1), DRAWINGS) is None


def test_the_chapter_says_what_shows_and_what_does_not() -> None:
    rows = [row for block in findings(RESULTS, DRAWINGS) if isinstance(block, Table) for row in block.rows]
    said = {(row[1], row[4].split(",")[0], row[4].split("less ")[1].split(",")[0]): row[0] for row in rows}
    assert said["FD-EffNet", "Shuffle-0", "Shuffle-0.8"] == "**shows**"
    assert said["FD-EffNet", "Shuffle-0", "Noisy-0"] == "**opposite**"
    assert said["Separation (structure x colour)", "Shuffle-0", "Noisy-0"] == "**open**"
    assert all(said["Region leakage", "CLS-0", other] == "**shows**" for other in ATTENTION)
    assert findings({name: {**report, "images": LEAST - 1} for name, report in RESULTS.items()}, DRAWINGS) == []
    assert findings({}, []) == []


@pytest.mark.parametrize(("sign", "low", "high", "said"), [(1, 1, 2, "shows"), (-1, 1, 2, "opposite"), (1, -1, 2, "open")])
def test_a_verdict_is_of_an_interval(sign: int, low: float, high: float, said: str) -> None:
    assert verdict(sign, low, high) == said
