"""Dual classifier-free guidance against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.sampling.guidance import combine

C, R, S = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([-1.0])
scales = st.floats(0, 20).filter(lambda s: s != 1)


@given(scales)
def test_one_scale(s: float) -> None:
    assert torch.allclose(combine(C, R, None, s, 1), R + s * (C - R))
    assert torch.allclose(combine(C, None, S, 1, s), S + s * (C - S))


@given(scales, scales)
def test_both_scales_are_averaged(gs: float, sgs: float) -> None:
    mean = (combine(C, R, None, gs, 1) + combine(C, None, S, 1, sgs)) / 2
    assert torch.allclose(combine(C, R, S, gs, sgs), mean)


def test_none() -> None:
    assert combine(C, None, None, 1, 1) is C


@pytest.mark.parametrize(("gs", "sgs", "name"), [(2, 1, "gs"), (1, 2, "sgs")])
def test_an_active_scale_needs_its_prediction(gs: float, sgs: float, name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is 2"):
        combine(C, None, None, gs, sgs)
