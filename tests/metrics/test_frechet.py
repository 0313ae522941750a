from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from src.metrics.frechet import bootstrap_interval, distance_of_features, frechet_distance, statistics


def features(seed: int, rows: int, dimensions: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, dimensions)) @ rng.normal(size=(dimensions, dimensions)) + rng.normal(size=dimensions)


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 12))
def test_diagonal_gaussians_have_a_closed_form(seed, d):
    rng = np.random.default_rng(seed)
    mu1, mu2 = rng.normal(size=(2, d))
    sd1, sd2 = rng.uniform(0, 3, size=(2, d))
    expected = ((mu1 - mu2) ** 2).sum() + ((sd1 - sd2) ** 2).sum()
    assert frechet_distance(mu1, np.diag(sd1**2), mu2, np.diag(sd2**2)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(seeds, st.integers(2, 40), st.integers(1, 12))
def test_the_same_features_are_at_zero_and_a_translation_at_its_squared_norm(seed, n, d):
    a = features(seed, n, d)
    sigma = statistics(a)[1]
    shift = np.random.default_rng(seed).normal(size=d)
    scale = np.trace(sigma) + shift @ shift
    for distance in (lambda a, b: frechet_distance(*statistics(a), *statistics(b)), distance_of_features):
        assert distance(a, a) == pytest.approx(0, abs=1e-9 * scale)
        assert distance(a, a + shift) == pytest.approx(shift @ shift, abs=1e-9 * scale)


@settings(max_examples=50)
@given(seeds, st.integers(2, 30), st.integers(2, 30), st.integers(1, 24))
def test_all_routes_agree_below_and_above_the_number_of_dimensions(seed, n, m, d):
    a, b = features(seed, n, d), features(seed + 1, m, d)
    eigen = frechet_distance(*statistics(a), *statistics(b))
    scale = np.trace(statistics(a)[1]) + np.trace(statistics(b)[1])
    assert distance_of_features(a, b) == pytest.approx(eigen, abs=1e-6 * scale)
    assert frechet_distance(*statistics(b), *statistics(a)) == pytest.approx(eigen, abs=1e-6 * scale)
    low, high = bootstrap_interval(a, b, repeats=2)
    assert 0 <= low <= high and np.isfinite(high)


def tools() -> dict[str, Callable[..., float]]:
    """The distance from two Gaussians as the field's tools have it."""
    from cleanfid.fid import frechet_distance as cleanfid_distance
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    def fidelity(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
        return fid_statistics_to_metric({"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2}, False)[KEY_METRIC_FID]

    return {"clean-fid": cleanfid_distance, "torch-fidelity": fidelity}


def like_a_network(seed: int, rows: int, dimensions: int) -> np.ndarray:
    """Rectified features of 64 causes and noise: correlated, never negative, the spectrum falls."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(0.1 * seed, 1 + 0.1 * seed, size=(rows, 64)) / 8
    return np.maximum(causes @ np.random.default_rng(99).normal(size=(64, dimensions)) + rng.normal(0, 0.5, (rows, dimensions)), 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # clean-fid calls sqrtm in a way that SciPy is about to drop
@pytest.mark.parametrize("kind", [features, like_a_network])
@pytest.mark.parametrize(
    ("n", "m", "d"), [(700, 600, 256), (100, 120, 256), (100, 700, 256), (700, 100, 256), (256, 257, 256), (300, 600, 512)]
)
def test_the_same_number_as_clean_fid_and_torch_fidelity(kind, n, m, d):
    """Full rank, rank-deficient on either side and on both, and one sample too few."""
    a, b = kind(1, n, d), kind(2, m, d)
    gaussians = (*statistics(a), *statistics(b))
    exact = distance_of_features(a, b)  # where a covariance is singular, from the features alone
    assert frechet_distance(*gaussians) == pytest.approx(exact, rel=1e-8)
    for tool, distance in tools().items():
        assert distance(*gaussians) == pytest.approx(exact, rel=1e-6), tool


@pytest.mark.parametrize("ranks", [(200, 200), (200, 60), (60, 200), (60, 80)])
def test_covariances_with_the_same_axes_have_a_closed_form_at_any_rank(ranks):
    """A steep spectrum: here the tools, whose rounding noise is under a root, are off by up to 1e-6 themselves."""
    axes = np.linalg.qr(np.random.default_rng(13).normal(size=(200, 200)))[0]
    spectra = [scale / (1.0 + np.arange(200)) * (np.arange(200) < rank) for scale, rank in zip((1, 1.3), ranks, strict=True)]
    expected = ((np.sqrt(spectra[0]) - np.sqrt(spectra[1])) ** 2).sum()
    zero = np.zeros(200)
    first, second = ((axes * spectrum) @ axes.T for spectrum in spectra)
    assert frechet_distance(zero, first, zero, second) == pytest.approx(expected, rel=1e-11)


def test_against_scipys_root():
    (mu1, s1), (mu2, s2) = statistics(features(1, 300, 60)), statistics(features(2, 300, 60))
    root = ((mu1 - mu2) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(mu1, s1, mu2, s2) == pytest.approx(root, rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(64, 440), (440, 64), (64, 64)])
def test_low_rank_route_equals_the_eigen_route_in_many_dimensions(n, m):
    a, b = features(3, n, 500), features(4, m, 500)
    assert distance_of_features(a, b) == pytest.approx(frechet_distance(*statistics(a), *statistics(b)), rel=1e-6)


def test_singular_covariances():
    zero, one = np.zeros(3), np.eye(3)
    flat = np.diag([1.0, 0.0, 0.0])
    assert frechet_distance(zero, 0 * one, zero, 0 * one) == 0
    assert frechet_distance(zero, 0 * one, zero, one) == pytest.approx(3)
    assert frechet_distance(zero, flat, zero, np.diag([0.0, 1.0, 0.0])) == pytest.approx(2)
    assert frechet_distance(zero, flat - 1e-17 * one, zero, flat) == pytest.approx(0, abs=1e-12)
    constant = np.ones((5, 8))
    assert distance_of_features(constant, constant + 1) == pytest.approx(8)


def test_statistics_are_those_of_numpy():
    a = features(5, 9, 4).astype(np.float32)
    mean, sigma = statistics(a)
    assert mean.dtype == sigma.dtype == np.float64
    np.testing.assert_allclose(mean, a.mean(0, dtype=np.float64))
    np.testing.assert_allclose(sigma, np.cov(a.astype(np.float64), rowvar=False))


def test_errors_are_sentences():
    for wrong in (np.zeros((1, 3)), np.zeros(3), np.full((4, 3), np.nan)):
        with pytest.raises(ValueError, match=r"\.$"):
            statistics(wrong)
    with pytest.raises(ValueError, match="dimensions: 2 and 3"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="covariance"):
        frechet_distance(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.zeros(2), np.full((2, 2), np.inf), np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match="dimensions: 2 and 3"):
        distance_of_features(np.zeros((4, 2)), np.zeros((4, 3)))


@pytest.mark.parametrize(("n", "m", "d"), [(64, 120, 300), (150, 200, 20)])
def test_the_interval_is_as_wide_as_new_samples_scatter(n, m, d):
    rng = np.random.default_rng(6)
    b = rng.normal(size=(m, d))
    samples = [1.3 * rng.normal(size=(n, d)) + 0.2 for _ in range(40)]
    distances = [distance_of_features(a, b) for a in samples]
    intervals = [bootstrap_interval(a, b, repeats=60, seed=i) for i, a in enumerate(samples[:20])]
    assert all(low < distance < high for (low, high), distance in zip(intervals, distances, strict=False))
    assert np.mean([low < np.mean(distances) < high for low, high in intervals]) >= 0.8
    assert 0.7 < np.mean([high - low for low, high in intervals]) / (2 * 1.96 * np.std(distances)) < 2


def test_a_resample_is_the_distance_of_the_repeated_rows():
    """Two groups can be drawn in three ways, so the width of two repeats is the difference of two known distances."""
    a, b = features(7, 8, 30), features(8, 20, 30)
    groups = ["x"] * 3 + ["y"] * 5
    draws = [np.r_[0:3, 0:3], np.r_[3:8, 3:8], np.r_[0:8]]
    expected = [distance_of_features(a[rows], b) for rows in draws]
    spread = {abs(x - y) for x in expected for y in expected}
    for seed in range(4):
        low, high = bootstrap_interval(a, b, groups, repeats=2, seed=seed, level=1 - 1e-9)
        assert min(abs(high - low - s) for s in spread) < 1e-4 * max(expected)


def test_the_interval_repeats_by_seed_and_follows_groups():
    a, b = features(9, 40, 12), features(10, 100, 12)
    assert bootstrap_interval(a, b, seed=1) == bootstrap_interval(a, b, seed=1) != bootstrap_interval(a, b, seed=2)
    low, high = bootstrap_interval(np.repeat(a, 4, 0), b, np.repeat(np.arange(40), 4), seed=1)
    alone = bootstrap_interval(np.repeat(a, 4, 0), b, seed=1)
    assert high - low > 1.5 * (alone[1] - alone[0])


def test_the_bootstrap_refuses_what_it_cannot_draw():
    a, b = features(11, 6, 3), features(12, 6, 3)
    for arguments in ({"groups_a": [0] * 6}, {"groups_a": [0, 1]}, {"level": 1.0}, {"repeats": 0}):
        with pytest.raises(ValueError, match=r"\.$"):
            bootstrap_interval(a, b, **arguments)
