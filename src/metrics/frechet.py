"""Frechet distance between two Gaussians (Dowson and Landau 1982), and between two sets of features.

d = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^{1/2}

The trace of the root is taken from a symmetric matrix alone, so nothing here is complex, needs an epsilon or can be NaN.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.lapack import dpstrf

from src.metrics.samples import Array, interval, pair, resamples, rows


def frechet_distance(mu1: ArrayLike, sigma1: ArrayLike, mu2: ArrayLike, sigma2: ArrayLike) -> float:
    """Squared Frechet distance between N(mu1, sigma1) and N(mu2, sigma2), never below 0.

    mu1, mu2: [D]; sigma1, sigma2: [D, D], symmetric and positive semi-definite up to rounding; they may be singular.
    With a root S1 = L L^T, S1 S2 has the eigenvalues of L^T S2 L, and zeros: one symmetric eigenproblem, of the size of S1's rank.
    The side of the lower rank is taken for S1.
    ValueError: shapes that do not fit, or a value that is not finite.
    """
    m1, s1 = _gaussian(mu1, sigma1)
    m2, s2 = _gaussian(mu2, sigma2)
    if m1.shape != m2.shape:
        raise ValueError(f"The two Gaussians differ in their dimensions: {m1.size} and {m2.size}.")
    root, other = min((_root(s1), s2), (_root(s2), s1), key=lambda sides: sides[0].shape[1])
    root_trace = np.sqrt(np.linalg.eigvalsh(root.T @ other @ root).clip(0)).sum()
    return _distance(m1, m2, np.trace(s1) + np.trace(s2), root_trace)


def statistics(features: ArrayLike) -> tuple[Array, Array]:
    """Mean [D] and unbiased covariance [D, D], in float64, of features [N, D]. ValueError: not a matrix, or N < 2."""
    x = rows(features)
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def distance_of_features(a: ArrayLike, b: ArrayLike) -> float:
    """Frechet distance between the Gaussians fitted to features a [N, D] and b [M, D]; N, M >= 2, else ValueError.

    With fewer samples than dimensions no covariance is formed. For centred features A, B, S1 = A^T A / (N - 1) and likewise
    S2, so tr (S1 S2)^{1/2} = |A B^T|_* / sqrt((N - 1)(M - 1)): the singular values of an N x M matrix, exactly.
    """
    x, y = pair(a, b)
    if min(len(x), len(y)) >= x.shape[1]:
        return frechet_distance(*statistics(x), *statistics(y))
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = (x - mean_x) / np.sqrt(len(x) - 1), (y - mean_y) / np.sqrt(len(y) - 1)
    return _distance(mean_x, mean_y, (x**2).sum() + (y**2).sum(), _nuclear_norm(x @ y.T))


def bootstrap_interval(
    a: ArrayLike, b: ArrayLike, groups_a: ArrayLike | None = None, repeats: int = 100, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) for distance_of_features(a, b) under new draws of as many generated drawings.

    a: [N, D] generated, whose rows are drawn again with replacement; b: [M, D] the fixed other side.
    groups_a: [N] labels; rows with one label (several variants of one drawing) are drawn together, see `samples.resamples`.
    The interval is shifted as `samples.interval` says: with fewer samples than dimensions a resample is farther away, always, so
    that plain percentiles would not even contain the distance.
    ValueError: shapes that do not fit, fewer than two groups, a level or repeats out of range.
    """
    x, y = pair(a, b)
    counts = resamples(len(x), groups_a, repeats, seed)
    # Common to all resamples: both sides around b's mean, and b's part of the cross matrix (b's root has at most D rows).
    mean = y.mean(0)
    x, y = x - mean, (y - mean) / np.sqrt(len(y) - 1)
    trace_y, squares = (y**2).sum(), (x**2).sum(1)
    root: Array = np.asarray(np.linalg.qr(y, mode="r")) if len(y) > y.shape[1] else y
    cross = x @ root.T  # => [N, min(M, D)]

    def distance(count: Array) -> float:
        n = count.sum()
        drawn = count > 0
        weights = count[drawn]
        mean_x = weights @ x[drawn] / n
        trace_x = (weights @ squares[drawn] - n * mean_x @ mean_x) / (n - 1)
        # A row that is drawn k times counts as one row that is sqrt(k) times as long: fewer rows, the same singular values.
        centred = (cross[drawn] - weights @ cross[drawn] / n) * np.sqrt(weights / (n - 1))[:, None]
        return _distance(mean_x, np.zeros_like(mean_x), trace_x + trace_y, _nuclear_norm(centred))

    low, high = interval(np.array([distance(count) for count in counts]), distance(np.ones(len(x))), level)
    return max(low, 0.0), max(high, 0.0)


def _distance(mean1: Array, mean2: Array, traces: float, root_trace: float) -> float:
    """The formula at the top; its true value is never negative, so what is below 0 is rounding."""
    return max(float(((mean1 - mean2) ** 2).sum() + traces - 2 * root_trace), 0.0)


def _root(sigma: Array) -> Array:
    """L [D, rank] with L L^T = sigma [D, D]: the Cholesky factor, pivoted, which stops where only rounding noise is left."""
    factor, pivots, rank, _ = dpstrf(sigma, lower=1)
    root = np.empty((len(sigma), rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def _nuclear_norm(matrix: Array) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())


def _gaussian(mu: ArrayLike, sigma: ArrayLike) -> tuple[Array, Array]:
    mean, covariance = np.asarray(mu, np.float64), np.asarray(sigma, np.float64)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size) or mean.size == 0:
        raise ValueError(f"A mean [D] needs a covariance [D, D], got {list(mean.shape)} and {list(covariance.shape)}.")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError("A mean or a covariance holds values that are not finite.")
    return mean, (covariance + covariance.T) / 2
