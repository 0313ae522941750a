import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.metrics import coverage
from src.metrics.coverage import coverage_of_equals, density_coverage, precision_recall


def column(*values: float) -> np.ndarray:
    return np.array(values, float)[:, None]


def test_a_case_on_a_line():
    """Balls of k = 1 around 0, 1, 3: [-1, 1], [0, 2], [1, 5]; around 0.5, 4, 10: [-3, 4], [0.5, 7.5], [4, 16]."""
    real, generated = column(0, 1, 3), column(0.5, 4, 10)
    assert precision_recall(generated, real, k=1) == (2 / 3, 1)
    assert density_coverage(generated, real, k=1) == (pytest.approx((2 + 1 + 0) / 3), 1)
    # 0.5 and 10 alone: their balls are [-9, 10] and [0.5, 19.5]; only 0.5 is inside real balls, those of 0 and 1
    assert density_coverage(column(0.5, 10), real, k=1) == (1, pytest.approx(2 / 3))


def test_the_same_and_the_far_away():
    same = np.random.default_rng(0).normal(size=(30, 4))
    assert precision_recall(same, same) == (1, 1)
    # each row lies in its own ball and, on average, in k others
    assert density_coverage(same, same) == (pytest.approx(6 / 5), 1)
    assert precision_recall(same + 100, same) == density_coverage(same + 100, same) == (0, 0)


def test_collapse_and_noise_move_opposite_ways():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(300, 8))
    collapsed, noisy = 0.3 * rng.normal(size=(300, 8)), 2.5 * rng.normal(size=(300, 8))
    (p_fit, r_fit), (p_wide, r_wide) = precision_recall(collapsed, real), precision_recall(noisy, real)
    assert min(p_fit, r_wide) > 0.95 and max(r_fit, p_wide) < 0.5
    (d_fit, c_fit), (d_wide, c_wide) = density_coverage(collapsed, real), density_coverage(noisy, real)
    assert d_fit > 1 and d_wide < 0.5 and max(c_fit, c_wide) < 0.7


def test_an_outlier_decides_precision_and_hardly_density():
    rng = np.random.default_rng(2)
    real, generated = rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 8
    outlier = np.vstack([real, np.full((1, 4), 20.0)])
    assert precision_recall(generated, real)[0] < 0.1 and precision_recall(generated, outlier)[0] > 0.9
    assert density_coverage(generated, outlier)[0] < density_coverage(generated, real)[0] + 0.25


def by_loops(a: np.ndarray, b: np.ndarray, k: int) -> list[float]:
    """The two papers' definitions, one distance at a time."""

    def radius(points: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(points[i] - points[j])) for j in range(len(points)) if j != i)[k - 1]

    def inside(point: np.ndarray, points: np.ndarray) -> list[bool]:
        return [bool(np.linalg.norm(point - points[i]) <= radius(points, i)) for i in range(len(points))]

    of_real, of_generated = [inside(x, b) for x in a], [inside(y, a) for y in b]
    nearest = [min(float(np.linalg.norm(x - y)) for x in a) for y in b]
    return [
        np.mean([any(row) for row in of_real]),
        np.mean([any(row) for row in of_generated]),
        sum(map(sum, of_real)) / (k * len(a)),
        np.mean([nearest[i] <= radius(b, i) for i in range(len(b))]),
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(0, 6), st.integers(0, 6), st.integers(1, 5))
def test_the_definitions(seed, k, n, m, d):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(k + 1 + n, d)), rng.normal(0.5, 1, size=(k + 1 + m, d))
    np.testing.assert_allclose([*precision_recall(a, b, k), *density_coverage(a, b, k)], by_loops(a, b, k))


def test_the_same_numbers_as_torch_fidelity(monkeypatch):
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(90, 16)), rng.normal(0.3, 1, size=(70, 16))
    theirs = calculate_precision_recall_full(torch.from_numpy(a), torch.from_numpy(b))
    assert precision_recall(a, b) == pytest.approx(theirs, abs=1e-6)
    monkeypatch.setattr(coverage, "BLOCK", 17)
    assert precision_recall(a, b) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("generated", "real"), [(40, 40), (20, 80), (80, 20)])
def test_what_a_perfect_generator_gets(generated, real):
    draws = [np.random.default_rng(i).normal(size=(generated + real, 5)) for i in range(150)]
    values = np.array([density_coverage(x[:generated], x[generated:]) for x in draws])
    error = values.std(0) / np.sqrt(len(values))
    assert abs(values[:, 0].mean() - 1) < 4 * error[0]
    assert abs(values[:, 1].mean() - coverage_of_equals(generated, real)) < 4 * error[1]
    assert coverage_of_equals(10**7, 10**7) == pytest.approx(1 - 2**-5, abs=1e-5)


def test_errors_are_sentences():
    few, many = np.zeros((3, 2)), np.ones((9, 2))
    for call in (
        lambda: precision_recall(few, many),
        lambda: precision_recall(many, many, k=0),
        lambda: density_coverage(many, few),
        lambda: coverage_of_equals(9, 5),
        lambda: coverage_of_equals(0, 9),
    ):
        with pytest.raises(ValueError, match=r"\.$"):
            call()
