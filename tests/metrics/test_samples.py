import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.metrics.samples import interval, resamples, too_small


def test_a_sample_fills_its_covariance_from_one_more_than_the_dimensions():
    def rank(samples: int) -> int:
        return int(np.linalg.matrix_rank(np.cov(np.random.default_rng(0).normal(size=(samples, 8)), rowvar=False)))

    assert rank(8) == 7 and too_small(8, 8) and too_small(64, 1280).startswith("64 samples in 1280 dimensions: ")
    assert rank(9) == 8 and too_small(9, 8) is None


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 99))
def test_groups_are_drawn_whole_and_as_many_as_there_are(groups, each, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(groups), each)).astype(str)
    counts = resamples(len(labels), labels, 3, seed)
    assert counts.shape == (3, groups * each) and (counts.sum(1) == groups * each).all()
    for label in set(labels):
        assert (np.ptp(counts[:, labels == label], axis=1) == 0).all()
    assert (resamples(len(labels), labels, 3, seed) == counts).all()


def test_without_groups_each_row_is_drawn_by_itself():
    counts = resamples(200, None, 50, 0)
    assert (counts.sum(1) == 200).all()
    assert np.mean(counts == 0) == pytest.approx(np.exp(-1), abs=0.02)


def test_an_interval_is_shifted_to_its_value():
    values = np.arange(101.0)
    assert interval(values, 50, 0.9) == pytest.approx((5, 95))
    assert interval(values, 10, 0.9) == pytest.approx((-35, 55))
    for level in (0, 1):
        with pytest.raises(ValueError, match=r"\.$"):
            interval(values, 50, level)


def test_what_cannot_be_drawn():
    for groups, repeats in (([0] * 6, 10), ([0, 1], 10), (None, 0)):
        with pytest.raises(ValueError, match=r"\.$"):
            resamples(6, groups, repeats, 0)
