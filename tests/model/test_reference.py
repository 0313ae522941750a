"""What training does to tokens (paper, 3.3 and 3.4)."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from src.model.diffusion import T, add_noise, alphas_cumprod, diffusion_loss, dual_loss
from src.model.reference import condition, drop, shuffle

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
