"""Kernel distance between two sets of features (Binkowski et al. 2018): KID on Inception's features.

The squared maximum mean discrepancy under the kernel k(x, y) = (x . y / D + 1)^3, estimated without bias: its expectation does
not depend on the number of samples, and between samples of one distribution it is 0, so that it can come out below 0.
All numbers here are the distance itself; tables show a thousand times that, as the field does.
"""

import numpy as np
from numpy.typing import ArrayLike

from src.metrics.samples import Array, interval, pair, resamples

BLOCK = 1024  # rows of the kernel matrix that are in memory at a time


def kernel_distance(a: ArrayLike, b: ArrayLike) -> float:
    """The unbiased estimate from all pairs of rows of features a [N, D] and b [M, D]; N, M >= 2, else ValueError."""
    x, y = pair(a, b)
    return float(_distances(x, y, np.ones((1, len(x))))[0])


def subsets_distance(a: ArrayLike, b: ArrayLike, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the estimates from random subsets, as KID is usually reported.

    Each subset has `size` rows of each side without repeats, or as many as the smaller side has. The mean has the expectation of
    `kernel_distance`, and more noise. The deviation shrinks with `size`, not with `subsets`, and is no error of the mean. The
    subsets are those of torch-fidelity for the same seed. ValueError: no subset, a size below 2, or unusable features.
    """
    x, y = pair(a, b)
    size = min(len(x), len(y), size)
    if subsets < 1 or size < 2:
        raise ValueError(f"At least one subset of at least two rows is needed, got {subsets} of {size}.")
    rng = np.random.RandomState(seed)
    ones = np.ones((1, size))
    values = np.empty(subsets)
    for i in range(subsets):
        rows_x, rows_y = (rng.choice(len(side), size, replace=False) for side in (x, y))
        values[i] = _distances(x[rows_x], y[rows_y], ones)[0]
    return float(values.mean()), float(values.std())


def bootstrap_interval(
    a: ArrayLike, b: ArrayLike, groups_a: ArrayLike | None = None, repeats: int = 100, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) for kernel_distance(a, b) under new draws of as many generated drawings; low may be below 0.

    a: [N, D] generated, drawn again with replacement; b: [M, D] the fixed other side; groups_a: as in `samples.resamples`.
    A row is never paired with itself or with its own copies. ValueError: as in `frechet.bootstrap_interval`.
    """
    x, y = pair(a, b)
    counts = resamples(len(x), groups_a, repeats, seed)
    counts = counts[(counts > 0).sum(1) > 1]  # a draw of one row alone has no pair
    values = _distances(x, y, np.concatenate([np.ones((1, len(x))), counts]))
    return interval(values[1:], float(values[0]), level)


def _distances(x: Array, y: Array, weights: Array) -> Array:
    """The estimate for each row of weights [R, N], the counts of x's rows, against all of y -> [R]."""
    ones = np.ones((1, len(y)))
    total, squares = weights.sum(1), (weights**2).sum(1)
    own = np.einsum("ij,ij->i", x, x)
    within_x = _sums(x, x, weights, weights) - weights**2 @ _kernel(own, x.shape[1])
    within_y = _sums(y, y, ones, ones) - _kernel(np.einsum("ij,ij->i", y, y), y.shape[1]).sum()
    between = _sums(x, y, weights, np.broadcast_to(ones, (len(weights), len(y))))
    return within_x / (total**2 - squares) + within_y / (len(y) * (len(y) - 1)) - 2 * between / (total * len(y))


def _sums(x: Array, y: Array, weights_x: Array, weights_y: Array) -> Array:
    """Sum over i, j of weights_x[r, i] k(x_i, y_j) weights_y[r, j], for each r -> [R]."""
    total = np.zeros(len(weights_x))
    for start in range(0, len(x), BLOCK):
        block = slice(start, start + BLOCK)
        total += ((weights_x[:, block] @ _kernel(x[block] @ y.T, x.shape[1])) * weights_y).sum(1)
    return total


def _kernel(products: Array, dimensions: int) -> Array:
    return (products / dimensions + 1) ** 3
