"""Fidelity and diversity apart: precision and recall, density and coverage, from nearest neighbours among features.

Each set is taken for the union of balls around its samples, each as wide as the way to its k-th nearest neighbour in the same set.
All four depend on k and on both numbers of samples: compare only values of equal numbers. Between samples of one distribution
density is 1 on average and coverage as `coverage_of_equals` says; precision and recall have no such anchor: they are not 1 there,
and in many dimensions they fall as the samples grow more and the balls smaller. One outlier's ball can hold most of a bad sample.
They have no bootstrap interval: a row that is drawn twice is its own nearest neighbour, and its ball is empty.
Balls are closed, as in the first paper; the package prdc has open ones, which differ where pictures are equal.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from src.metrics.samples import Array, pair

BLOCK = 1024  # rows of a distance matrix that are in memory at a time


def precision_recall(a: ArrayLike, b: ArrayLike, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019), each in [0, 1].

    a: [N, D] generated, b: [M, D] real. Precision: the share of a inside any ball of b; recall: the share of b inside any ball
    of a. ValueError: unusable features, or not 1 <= k < N, M.
    """
    x, y = pair(a, b)
    _check(k, len(x), len(y))
    radii_x, radii_y = _radii(x, k), _radii(y, k)
    covered_x, inside_y = np.zeros(len(x), bool), np.zeros(len(y), bool)
    for block, distances in _distances(x, y):
        covered_x[block] = (distances <= radii_y).any(1)
        inside_y |= (distances <= radii_x[block, None]).any(0)
    return float(covered_x.mean()), float(inside_y.mean())


def density_coverage(a: ArrayLike, b: ArrayLike, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al. 2020): density from 0 to possibly above 1, coverage in [0, 1].

    a: [N, D] generated, b: [M, D] real. Density: in how many balls of b a row of a lies, on average, divided by k; one outlier of
    b counts once there, where it decides in precision. Coverage: the share of b's balls that hold a row of a.
    ValueError: unusable features, or not 1 <= k < M.
    """
    x, y = pair(a, b)
    _check(k, len(y))
    radii = _radii(y, k)
    balls, covered = 0, np.zeros(len(y), bool)
    for _, distances in _distances(x, y):
        inside = distances <= radii
        balls += int(inside.sum())
        covered |= inside.any(0)
    return balls / (k * len(x)), float(covered.mean())


def coverage_of_equals(generated: int, real: int, k: int = 5) -> float:
    """The coverage to expect of a perfect generator with so many samples (Naeem et al. 2020).

    A ball is empty if the k nearest of the other generated + real - 1 samples are all real: with as many of each and many, a share
    of 2^-k. ValueError: not 1 <= k < real, or nothing generated.
    """
    _check(k, real)
    if generated < 1:
        raise ValueError("Coverage needs at least one generated sample.")
    nearer = np.arange(1, k + 1)
    return float(1 - np.prod((real - nearer) / (generated + real - nearer)))


def _check(k: int, *counts: int) -> None:
    if not 1 <= k < min(counts):
        raise ValueError(f"The {k}. nearest neighbour needs k of at least 1 and more than k samples, got {min(counts)}.")


def _radii(x: Array, k: int) -> Array:
    """Squared distance from each row to its k-th nearest other row -> [N]."""
    radii = np.empty(len(x))
    for block, distances in _distances(x, x):
        radii[block] = np.partition(distances, k, axis=1)[:, k]  # place 0 is the row itself
    return radii


def _distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances [B, M] of a block of x's rows after another to all rows of y, each with its block."""
    squares = np.einsum("ij,ij->i", y, y)
    for start in range(0, len(x), BLOCK):
        block = slice(start, start + BLOCK)
        own = np.einsum("ij,ij->i", x[block], x[block])
        yield block, (own[:, None] + squares - 2 * x[block] @ y.T).clip(0)
