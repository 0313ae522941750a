"""The sampler against independent float64 solvers, and its order on data with a known solution."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.order import Gaussian, denoised, orders, sampled

# The sampler keeps z in float32, of which a trajectory from sigma 14.6 to 0 loses a few digits.
TOLERANCE = 2e-5


def dpmpp_2m(x: np.ndarray, sigmas: np.ndarray, lower_order_final: bool) -> np.ndarray:
    """Algorithm 2 of DPM-Solver++ (Lu et al. 2022b) for x = data + sigma noise, lambda = -log sigma, written from the paper."""
    before: tuple[np.ndarray, float] | None = None  # the last estimate of the data, and the last step in lambda
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        data = denoised(x, sigma)
        last = i == len(sigmas) - 2
        if following == 0:
            x = data
        else:
            h = np.log(sigma / following)
            guess = data
            if before is not None and not (last and lower_order_final) and h > 0:
                guess = data + (data - before[0]) * h / (2 * before[1])
            x = following / sigma * x + (1 - np.exp(-h)) * guess
            before = data, h
    return x


def ddim(x: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Eq. 12 of DDIM (Song et al. 2021a) with eta = 0, in alpha-bar, on z."""
    a = 1 / (1 + sigmas**2)
    z = x * a[0] ** 0.5
    for sigma, now, then in zip(sigmas, a, a[1:], strict=False):
        noise = (z / now**0.5 - denoised(z / now**0.5, sigma)) / sigma
        z = then**0.5 * (z - (1 - now) ** 0.5 * noise) / now**0.5 + (1 - then) ** 0.5 * noise
    return z / a[-1] ** 0.5


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 50])
@pytest.mark.parametrize(("sigmas", "final"), [("vp", "zero"), ("karras", "zero"), ("karras", "sigma_min"), ("vp", "sigma_min")])
def test_dpm_solver_is_the_papers(sigmas: str, final: str, steps: int) -> None:
    result, start, levels = sampled("dpmpp_2m", sigmas, final, steps)
    assert len(levels) == steps + 1
    assert np.abs(result - dpmpp_2m(start, levels, lower_order_final=final == "zero")).max() < TOLERANCE


@pytest.mark.parametrize("solver", ["ddim", "euler"])
@pytest.mark.parametrize("steps", [7, 20, 50])
def test_ddim_and_euler_are_the_same_first_order_step(solver: str, steps: int) -> None:
    """Euler on x = data + sigma noise is DDIM (Karras et al. 2022, C.3); diffusers' grids end alike, so Karras's is compared."""
    result, start, levels = sampled(solver, "karras", "zero", steps)
    assert np.abs(result - ddim(start, levels)).max() < TOLERANCE


def test_the_stochastic_solver_gives_the_datas_distribution() -> None:
    result, _, _ = sampled("dpmpp_2m_sde", "karras", "zero", 60)
    again, _, _ = sampled("dpmpp_2m_sde", "karras", "zero", 60)
    assert result.mean() == pytest.approx(Gaussian.mean, abs=0.15) and result.std() == pytest.approx(Gaussian.std, abs=0.1)
    assert np.array_equal(result, again)  # its noise is the drawing's own


def test_second_order_shows_on_the_grid_that_ends_at_sigma_min() -> None:
    assert min(orders("dpmpp_2m", "karras", "sigma_min")[1]) >= 1.8
    assert max(orders("ddim", "karras", "sigma_min")[1]) < 1.1
    assert max(orders("dpmpp_2m", "vp", "zero")[1]) < 1.3  # the default grid: its last step to zero is of first order
