"""Sketch fidelity: has the result the sketch's lines, and no others?

Precision and recall of line pixels within a tolerance, as for boundaries in segmentation (Martin, Fowlkes and Malik 2004),
without their one-to-one matching. The result's lines are found by the extractor of the sketches (XDoG), whose defaults find ink
and hardly any border between two colours.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.lines import xdog

LINE = 128  # darker values of a line drawing are lines
TOLERANCE = 1.0  # pixels: half a line's width at 64 px


class Lines(NamedTuple):
    """mask: the line pixels, bool [H, W]; near: those within the tolerance of one, bool [H, W]."""

    mask: NDArray[np.bool_]
    near: NDArray[np.bool_]


def lines_of_sketch(sketch: NDArray[np.uint8], tolerance: float = TOLERANCE) -> Lines:
    """The lines of a line drawing, uint8 [H, W], 0 = line. ValueError: not uint8 [H, W]."""
    from scipy.ndimage import distance_transform_edt

    if sketch.dtype != np.uint8 or sketch.ndim != 2:
        raise ValueError(f"A sketch needs to be uint8 [H, W], got {sketch.dtype} {list(sketch.shape)}.")
    mask = sketch < LINE
    # Without a line there is nothing to be near to, which the distance transform does not know.
    return Lines(mask, distance_transform_edt(~mask) <= tolerance if mask.any() else mask)


def lines_of_result(result: NDArray[np.uint8], tolerance: float = TOLERANCE, options: Mapping[str, float] | None = None) -> Lines:
    """The lines of a colour image, uint8 RGB [H, W, 3]. options: of `xdog`, those that the sketches were made with."""
    return lines_of_sketch(xdog(result, **(options or {})), tolerance)


def spurious(result: Lines, sketch: Lines) -> float:
    """1 - precision: the share of the result's lines that are not near one of the sketch's. nan: the result has no lines."""
    return float(1 - sketch.near[result.mask].mean()) if result.mask.any() else float("nan")


def vanished(result: Lines, sketch: Lines) -> float:
    """1 - recall: the share of the sketch's lines that are not near one of the result's. nan: the sketch has no lines."""
    return float(1 - result.near[sketch.mask].mean()) if sketch.mask.any() else float("nan")


def line_error(result: Lines, sketch: Lines) -> float:
    """1 - F, F the harmonic mean of precision and recall: 0 = the sketch's lines and no others, 1 = none of them.

    1 where the result has no lines; nan where the sketch has none.
    """
    if not sketch.mask.any():
        return float("nan")
    precision, recall = 1 - spurious(result, sketch), 1 - vanished(result, sketch)
    return 1 - 2 * precision * recall / (precision + recall) if precision > 0 and recall > 0 else 1.0


def sketch_fidelity(
    results: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    sketches: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    tolerance: float = TOLERANCE,
    options: Mapping[str, float] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """`spurious`, `vanished` and `fidelity` (F) of N results [H, W, 3] and their sketches [H, W], uint8 -> float64 [N] each."""
    pairs = [
        (lines_of_result(result, tolerance, options), lines_of_sketch(sketch, tolerance))
        for result, sketch in zip(results, sketches, strict=True)
    ]
    return {
        "spurious": np.array([spurious(*pair) for pair in pairs]),
        "vanished": np.array([vanished(*pair) for pair in pairs]),
        "fidelity": np.array([1 - line_error(*pair) for pair in pairs]),
    }
