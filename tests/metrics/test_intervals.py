"""Means with bootstrap intervals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.metrics.intervals import mean_interval


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.15) and low < mean < high
    assert mean_interval(values) == (mean, low, high) != mean_interval(values, seed=1)


def test_pictures_of_one_drawing_are_one_trial() -> None:
    values = np.random.default_rng(0).normal(0, 1, 100)
    alone, repeated = mean_interval(values), mean_interval(np.repeat(values, 9), np.repeat(np.arange(100), 9))
    assert repeated == pytest.approx(alone)
    _, low, high = mean_interval(np.repeat(values, 9))
    assert high - low < (alone[2] - alone[1]) / 2


@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan)), min_size=1, max_size=20))
def test_nan_is_left_out(values: list[float]) -> None:
    there = [value for value in values if not math.isnan(value)]
    mean, low, high = mean_interval(values, repeats=20)
    if there:
        assert mean == pytest.approx(np.mean(there)) and math.isnan(low) == (len(there) < 2)
    else:
        assert math.isnan(mean) and math.isnan(low) and math.isnan(high)


def test_what_is_refused() -> None:
    for arguments, message in ((([1, 2], [1]), "groups"), (([[1]],), "groups"), (([1, 2], None, 0), "bootstrap")):
        with pytest.raises(ValueError, match=message):
            mean_interval(*arguments)
