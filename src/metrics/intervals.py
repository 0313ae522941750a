"""The mean of one value a picture, with an interval that takes drawings as independent trials."""

import numpy as np
from numpy.typing import ArrayLike


def mean_interval(
    values: ArrayLike, groups: ArrayLike | None = None, repeats: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float]:
    """(mean, low, high) of values [N]: the percentiles of means over as many drawings, drawn again with replacement.

    groups: [N] labels of any kind; values with one label (several pictures of one drawing) are drawn together. nan values are
    left out; without two groups that have others the interval is nan, and without any so is the mean.
    ValueError: shapes that do not fit, or a level or repeats out of range.
    """
    x = np.asarray(values, np.float64)
    labels = np.arange(len(x)) if groups is None else np.asarray(groups)
    if x.ndim != 1 or labels.shape != x.shape:
        raise ValueError(f"Values [N] need groups [N], got {list(x.shape)} and {list(labels.shape)}.")
    if not 0 < level < 1 or repeats < 1:
        raise ValueError(f"A bootstrap needs a level in (0, 1) and at least one repeat, got {level} and {repeats}.")
    there = ~np.isnan(x)
    if not there.any():
        return float("nan"), float("nan"), float("nan")
    x, members = x[there], np.unique(labels[there], return_inverse=True)[1]
    sums, sizes = np.bincount(members, x), np.bincount(members)
    mean = float(x.mean())
    if len(sizes) < 2:
        return mean, float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(repeats, len(sizes)))
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [(1 - level) / 2, (1 + level) / 2])
    return mean, float(low), float(high)
