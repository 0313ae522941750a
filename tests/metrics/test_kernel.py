import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.metrics import kernel
from src.metrics.kernel import bootstrap_interval, kernel_distance, subsets_distance


def features(seed: int, rows: int, dimensions: int = 24, shift: float = 0.0) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).normal(shift, 1, (rows, dimensions)), 0)


def by_loops(a: np.ndarray, b: np.ndarray) -> float:
    """Binkowski et al. 2018, Equation 4, one pair at a time."""

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(k(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_b = sum(k(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_a + within_b - 2 * sum(k(x, y) for x in a for y in b) / (n * m)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.integers(2, 9), st.integers(1, 5))
def test_the_formula(seed, n, m, d):
    a, b = np.random.default_rng(seed).normal(size=(n, d)), np.random.default_rng(seed + 1).normal(size=(m, d))
    assert kernel_distance(a, b) == pytest.approx(by_loops(a, b), rel=1e-9, abs=1e-9)
    assert kernel_distance(b, a) == pytest.approx(by_loops(a, b), rel=1e-9, abs=1e-9)


def test_blocks_make_no_difference(monkeypatch):
    a, b = features(1, 50), features(2, 37, shift=0.2)
    whole = kernel_distance(a, b), bootstrap_interval(a, b)
    monkeypatch.setattr(kernel, "BLOCK", 7)
    np.testing.assert_allclose([kernel_distance(a, b), *bootstrap_interval(a, b)], [whole[0], *whole[1]], rtol=1e-9)


@pytest.mark.parametrize(("n", "m", "size"), [(60, 60, 60), (80, 60, 30), (80, 60, 1000)])
def test_the_same_number_as_clean_fid_and_torch_fidelity(n, m, size):
    from cleanfid.fid import kernel_distance as cleanfid_distance
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    a, b = features(3, n), features(4, m, shift=0.3)
    mean, std = subsets_distance(a, b, 10, size, seed=5)
    np.random.seed(5)
    # clean-fid draws from its second set first
    assert mean == pytest.approx(cleanfid_distance(b, a, num_subsets=10, max_subset_size=size), rel=1e-9)
    theirs = kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=10, kid_subset_size=min(size, n, m), rng_seed=5, verbose=False
    )
    assert (mean, std) == pytest.approx((theirs[KEY_METRIC_KID_MEAN], theirs[KEY_METRIC_KID_STD]), rel=1e-9, abs=1e-9)
    if size >= n == m:  # every subset is the whole
        assert mean == pytest.approx(kernel_distance(a, b), rel=1e-9)


def test_the_estimate_has_no_bias_at_few_samples():
    few = [kernel_distance(features(i, 8), features(i + 1000, 8, shift=0.2)) for i in range(400)]
    many = kernel_distance(features(1, 3000), features(2, 3000, shift=0.2))
    assert np.mean(few) == pytest.approx(many, abs=4 * np.std(few) / 20)
    nothing = [kernel_distance(features(i, 8), features(i + 1000, 8)) for i in range(400)]
    assert np.mean(nothing) == pytest.approx(0, abs=4 * np.std(nothing) / 20) and min(nothing) < 0


def test_the_interval_is_as_wide_as_new_samples_scatter():
    b = features(6, 150)
    samples = [features(10 + i, 60, shift=0.2) for i in range(60)]
    distances = [kernel_distance(a, b) for a in samples]
    intervals = [bootstrap_interval(a, b, repeats=80, seed=i) for i, a in enumerate(samples[:20])]
    assert all(low < distance < high for (low, high), distance in zip(intervals, distances, strict=False))
    assert 0.7 < np.mean([high - low for low, high in intervals]) / (2 * 1.96 * np.std(distances)) < 1.4


def test_copies_of_a_row_are_no_pairs_of_it():
    """Two groups can be drawn in three ways; drawn twice, a group gives its own distance."""
    a, b = features(7, 8), features(8, 20)
    groups = ["x"] * 3 + ["y"] * 5
    expected = [kernel_distance(a[:3], b), kernel_distance(a[3:], b), kernel_distance(a, b)]
    spread = {abs(x - y) for x in expected for y in expected}
    for seed in range(4):
        low, high = bootstrap_interval(a, b, groups, repeats=2, seed=seed, level=1 - 1e-9)
        assert min(abs(high - low - s) for s in spread) < 1e-6


def test_variants_of_a_drawing_are_drawn_together():
    a, b = features(9, 40), features(10, 100)
    low, high = bootstrap_interval(np.repeat(a, 4, 0), b, np.repeat(np.arange(40), 4))
    alone = bootstrap_interval(np.repeat(a, 4, 0), b)
    assert high - low > 1.5 * (alone[1] - alone[0])


def test_a_draw_of_one_row_alone_is_left_out():
    low, high = bootstrap_interval(features(11, 3), features(12, 20))
    assert np.isfinite([low, high]).all() and low < high


def test_errors_are_sentences():
    with pytest.raises(ValueError, match="dimensions: 2 and 3"):
        kernel_distance(np.zeros((4, 2)), np.zeros((4, 3)))
    for wrong in ({"subsets": 0}, {"size": 1}):
        with pytest.raises(ValueError, match=r"\.$"):
            subsets_distance(features(1, 4), features(2, 4), **wrong)
