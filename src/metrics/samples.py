"""Samples of features: what every distance between two of them asks, when one is too small, and new draws of its drawings."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def rows(features: ArrayLike) -> Array:
    """Features [N, D] in float64. ValueError: not a matrix, N < 2, or a value that is not finite."""
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) < 2 or x.shape[1] == 0:
        raise ValueError(f"Features need the shape [N, D] with N of at least 2, got {list(x.shape)}.")
    if not np.isfinite(x).all():
        raise ValueError("Features hold values that are not finite.")
    return x


def pair(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    """Two sets of features, [N, D] and [M, D], in float64. ValueError: see `rows`, or two different D."""
    x, y = rows(a), rows(b)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"The two sets of features differ in their dimensions: {x.shape[1]} and {y.shape[1]}.")
    return x, y


def too_small(samples: int, dimensions: int) -> str | None:
    """A sentence for tables where a sample cannot fill its covariance, so that a Frechet distance is mostly bias; else None."""
    if samples > dimensions:
        return None
    return (
        f"{samples} samples in {dimensions} dimensions: the covariance has no full rank, and a Frechet distance is far too large. "
        "Compare it only with distances of as many samples; the kernel distance has no such bias."
    )


def resamples(count: int, groups: ArrayLike | None, repeats: int, seed: int) -> Array:
    """How often each of `count` rows appears in each of `repeats` bootstrap draws of as many groups -> [repeats, count].

    groups: [count] labels of any kind; rows with one label (several variants of one drawing) are drawn together. None: each row
    by itself. ValueError: labels of another number, fewer than two groups, or no repeat.
    """
    labels = np.arange(count) if groups is None else np.asarray(groups)
    if labels.shape != (count,):
        raise ValueError(f"There are {count} rows but group labels of shape {list(labels.shape)}.")
    members = np.unique(labels, return_inverse=True)[1]
    total = int(members.max()) + 1
    if total < 2 or repeats < 1:
        raise ValueError(f"A bootstrap needs two or more groups of rows and one or more repeats, got {total} and {repeats}.")
    rng = np.random.default_rng(seed)
    draws = [np.bincount(rng.integers(total, size=total), minlength=total) for _ in range(repeats)]
    return np.stack(draws)[:, members].astype(np.float64)


def interval(values: Array, value: float, level: float) -> tuple[float, float]:
    """Percentiles (low, high) of resampled values, shifted so that their mean is `value`, that of the sample itself.

    A resample repeats rows: it is less spread than its sample, and what measures spread is biased by that. The interval tells
    how much a value moves, not how biased it is. level: in (0, 1), else ValueError.
    """
    if not 0 < level < 1:
        raise ValueError(f"An interval needs a level in (0, 1), got {level}.")
    tail = 50 * (1 - level)
    low, high = np.percentile(values, [tail, 100 - tail]) + (value - values.mean())
    return float(low), float(high)
