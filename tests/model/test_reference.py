"""What training does to tokens (paper, 3.3 and 3.4)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.model.diffusion import T, add_noise, alphas_cumprod, diffusion_loss, dual_loss, min_snr_weight, offset, target
from src.model.reference import condition, drop, mirrored, shuffle

SCHEDULE = alphas_cumprod()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_schedule_is_stable_diffusions() -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    assert torch.allclose(SCHEDULE, theirs, rtol=1e-5) and len(SCHEDULE) == T


@given(st.integers(0, T - 1))
def test_variance_is_preserved(t: int) -> None:
    z, eps = torch.ones(1, 1), torch.zeros(1, 1)
    alpha = add_noise(z, eps, torch.tensor([t]), SCHEDULE)
    beta = add_noise(eps, z, torch.tensor([t]), SCHEDULE)
    assert torch.allclose(alpha**2 + beta**2, torch.ones(1, 1))


def test_shuffle_permutes_each_sample_on_its_own() -> None:
    tokens = torch.arange(24.0).view(2, 12, 1).repeat(1, 1, 3)
    mixed = shuffle(tokens, generator())
    assert torch.equal(mixed.sort(1).values, tokens)
    assert not torch.equal(mixed[0], tokens[0]) and not torch.equal(mixed[0], mixed[1] - 12)


def test_drop_takes_whole_samples_at_its_rate() -> None:
    dropped = (drop(torch.ones(4000, 3, 2), 0.75, generator()) == 0).all(2).all(1)
    assert abs(dropped.float().mean() - 0.75) < 0.03
    assert torch.equal(drop(torch.ones(4, 3, 2), 1.0, generator()), torch.zeros(4, 3, 2))


def test_dropped_tokens_are_zero_also_when_noisy() -> None:
    out = condition(
        torch.ones(64, 5, 2), torch.full((64,), 900), SCHEDULE, shuffled=True, noisy=True, drop_rate=0.5, generator=generator()
    )
    zero = (out == 0).all(2).all(1)
    assert 0 < zero.sum() < 64
    assert out[~zero].std() > 0.5


def test_dual_loss_is_eq_4() -> None:
    z, noise, noise2 = (torch.randn(3, 1, 2, 2, generator=generator(i)) for i in range(3))
    t, tokens = torch.tensor([0, 500, 999]), torch.ones(3, 2, 1)
    seen = []

    def predict(z_t: torch.Tensor, t: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        seen.append(tokens)
        return z_t * tokens.mean((1, 2)).view(-1, 1, 1, 1) + 0.1

    both = dual_loss(predict, z, t, tokens, noise, noise2, 4.0, SCHEDULE)
    one = diffusion_loss(predict, z, t, tokens, noise, SCHEDULE)
    two = diffusion_loss(predict, z, t, torch.zeros_like(tokens), noise2, SCHEDULE)
    assert torch.allclose(both, one + 4 * two)
    assert torch.equal(seen[0][3:], torch.zeros(3, 2, 1))


@given(st.integers(0, T - 1))
def test_v_and_the_noisy_latent_give_back_both_parts(t: int) -> None:
    z, eps = torch.randn(1, 2, 2, 2, generator=generator(1)), torch.randn(1, 2, 2, 2, generator=generator(2))
    step = torch.tensor([t])
    v, z_t = target(z, eps, step, SCHEDULE, "v"), add_noise(z, eps, step, SCHEDULE)
    alpha, beta = SCHEDULE[t].sqrt(), (1 - SCHEDULE[t]).sqrt()
    assert torch.allclose(alpha * z_t - beta * v, z, atol=1e-5) and torch.allclose(beta * z_t + alpha * v, eps, atol=1e-5)


@given(st.integers(0, T - 1), st.floats(0.5, 20))
def test_min_snr_weights_are_one_loss_of_z_seen_through_either_prediction(t: int, gamma: float) -> None:
    """The loss of z_0 is that of eps / SNR and that of v / (SNR + 1): Min-SNR caps its weight at gamma whatever is predicted."""
    snr = float(SCHEDULE[t] / (1 - SCHEDULE[t]))
    step = torch.tensor([t])
    assert min_snr_weight(step, gamma, SCHEDULE).item() * snr == pytest.approx(min(snr, gamma), rel=1e-4)
    assert min_snr_weight(step, gamma, SCHEDULE, "v").item() * (snr + 1) == pytest.approx(min(snr, gamma), rel=1e-4)


def test_offset_noise_shifts_whole_channels() -> None:
    noise = torch.zeros(500, 4, 3, 3)
    shifted = offset(noise, 0.05, generator())
    assert (shifted == shifted[..., :1, :1]).all() and abs(shifted[..., 0, 0].std() - 0.05) < 0.003


def test_mirrored_timesteps_are_the_authors() -> None:
    assert mirrored(torch.tensor([0, 899, 900, 999]), 900).tolist() == [0, 899, 99, 0]
