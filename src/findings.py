"""Do the paper's findings show in our numbers? Each as one difference that the paper lets expect, with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.document import Block, Heading, Table, Text
from src.measure import MEASURES

Results = Mapping[str, Mapping[str, Any]]
LEAST = 200  # results a cell, below which nothing is said
Z = 1.959964


@dataclass(frozen=True)
class Expectation:
    """A measure of `model` at `cell` less that of `other` at `other_cell`, and the sign that the paper lets expect.

    Where `since` is given, each side is its rise from that cell to its own.
    """

    finding: str
    measure: str
    model: str
    cell: str
    other: str
    other_cell: str
    sign: int
    since: str | None = None

    def words(self) -> str:
        def side(model: str, cell: str) -> str:
            return f"{model}, GS-{self.since} to GS-{cell}" if self.since else f"{model}, GS-{cell}"

        return f"{side(self.model, self.cell)}, less {side(self.other, self.other_cell)}"


def expectations(low: str, high: str) -> list[Expectation]:
    """What the paper says, for its lowest FIDs' guidance scale `low` and the highest one, `high`."""
    steep = "Without drop or noise the distance rises steeply with GS, with them it does not (Table 1)"
    entangled = "Without drop or noise, shapes of the reference get into the result at high GS (Figures 11 and 14)"
    noisy = "Noisy training keeps the sketch at high GS (Table 1 and Figure 11)"
    cls = "The CLS model segments best (Figure 11)"
    least = "The CLS model takes least from the reference (Figure 11)"
    return [
        *(Expectation(steep, "FD-EffNet", a, high, b, high, 1, since=low) for a, b in STEEP),
        *(Expectation(entangled, "separation", a, high, b, high, -1) for a, b in STEEP),
        *(Expectation(entangled, "entanglement", a, high, b, high, 1) for a, b in STEEP),
        *(Expectation(noisy, measure, "Noisy-0", high, "Shuffle-0", high, sign) for measure, sign in SKETCH),
        *(Expectation(cls, "leakage", "CLS-0", low, other, low, -1) for other in ATTENTION),
        *(Expectation(least, "colour", "CLS-0", low, other, low, -1) for other in ATTENTION),
    ]


STEEP = (("Deform-0", "Deform-0.75"), ("Shuffle-0", "Shuffle-0.8"), ("Shuffle-0", "Noisy-0"))
SKETCH = (("structure", 1), ("spurious", -1), ("vanished", -1))
ATTENTION = ("Shuffle-0", "Shuffle-0.8", "Noisy-0")


def findings(results: Results, drawings: Sequence[str], low: str = "2", high: str = "10") -> list[Block]:
    """The page's chapter, for results on pictures of `drawings`.

    Nothing where there are fewer than LEAST results a cell, or none of the models.
    """
    rows: dict[str, list[list[str]]] = {}
    for expected in expectations(low, high):
        if {expected.model, expected.other} <= results.keys():
            measured = difference(results, expected, drawings)
            if measured is not None:
                rows.setdefault(expected.finding, []).append(_row(expected, measured))
    if not rows or min(report["images"] for report in results.values()) < LEAST:
        return []
    text = (
        "Each line is a difference of two of our numbers, with its 95 % interval: by bootstrap over the same drawings where each "
        "picture has a value, from the intervals of both numbers, as if independent, for distances. It **shows** where it "
        "lies on the side that the paper lets expect, the **opposite** shows where it lies on the other one, and it is **open** "
        "where the interval holds 0. Many lines are looked at, so one in forty would show by chance alone."
    )
    head = ["Verdict", "Measure", "Expected", "Measured", "Difference"]
    blocks: list[Block] = [Heading(2, "Do the paper's findings show?"), Text(text)]
    for finding, part in rows.items():
        blocks += [Heading(3, finding), Table(head, part)]
    return blocks


def difference(results: Results, expected: Expectation, drawings: Sequence[str]) -> tuple[float, float, float] | None:
    """(difference, low, high); None where a number is missing. drawings: what each picture shows, which are drawn together."""
    from src.metrics.intervals import mean_interval

    sides = ((expected.model, expected.cell, 1), (expected.other, expected.other_cell, -1))
    signed = [(model, cell, sign) for model, cell, sign in sides]
    if expected.since:
        signed += [(model, expected.since, -sign) for model, _, sign in sides]
    numbers = [results[model]["measures"].get(expected.measure, {}).get(cell) for model, cell, _ in signed]
    if None in numbers:
        return None
    values = [results[model]["samples"].get(cell, {}).get(expected.measure) for model, cell, _ in signed]
    if all(value is not None for value in values):
        return mean_interval(sum(sign * value for value, (_, _, sign) in zip(values, signed, strict=True)), drawings)  # type: ignore[arg-type]
    total = sum(sign * number["value"] for number, (_, _, sign) in zip(numbers, signed, strict=True))  # type: ignore[index]
    error = Z * float(np.sqrt(sum(((number["high"] - number["low"]) / (2 * Z)) ** 2 for number in numbers)))  # type: ignore[index]
    return total, total - error, total + error


def verdict(sign: int, low: float, high: float) -> str:
    if low <= 0 <= high or np.isnan(low):
        return "open"
    return "shows" if (low > 0) == (sign > 0) else "opposite"


def _row(expected: Expectation, measured: Sequence[float]) -> list[str]:
    how = MEASURES[expected.measure]
    value, low, high = (f"{x * how.scale:+.{how.decimals}f}{how.unit}" for x in measured)
    said = verdict(expected.sign, measured[1], measured[2])
    sign = "above 0" if expected.sign > 0 else "below 0"
    return [f"**{said}**", how.title, sign, f"{value} [{low}, {high}]", expected.words()]
