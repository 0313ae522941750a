"""What training does to the reference tokens: shuffle, then noise, then drop (paper, 3.3 and 3.4)."""

import torch
from torch import Tensor

from src.model.diffusion import T, add_noise


def shuffle(tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The local tokens [B, n, D] of every sample in a random order of its own (latent shuffle training)."""
    order = torch.rand(tokens.shape[:2], generator=generator, device=tokens.device).argsort(1)
    return tokens.gather(1, order[..., None].expand_as(tokens))


def add_token_noise(tokens: Tensor, t: Tensor, schedule: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Eq. 3: tau_t = alpha_t tau + beta_t eps_r, with the timestep of the latent."""
    noise = torch.randn(tokens.shape, generator=generator, device=tokens.device, dtype=tokens.dtype)
    return add_noise(tokens, noise, t, schedule)


def mirrored(t: Tensor, start: int) -> Tensor:
    """Timesteps from `start` on become T - 1 - t: the authors' code hardly noises tokens of the noisiest latents (start 900)."""
    return torch.where(t >= start, T - 1 - t, t)


def drop(tokens: Tensor, rate: float, generator: torch.Generator | None = None) -> Tensor:
    """Sets the whole token set of a sample to exactly zero with probability `rate` (dropping training)."""
    kept = torch.rand(len(tokens), generator=generator, device=tokens.device) >= rate
    return tokens * kept.view(-1, 1, 1).to(tokens.dtype)


def condition(
    tokens: Tensor,
    t: Tensor,
    schedule: Tensor,
    *,
    shuffled: bool,
    noisy: bool,
    drop_rate: float,
    mirror: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The tokens that a training step sees. Dropping comes last: a dropped sample's tokens are zero, also with `noisy`.

    mirror: where `mirrored` starts; 0 = off, plain Eq. 3.
    """
    if shuffled:
        tokens = shuffle(tokens, generator)
    if noisy:
        tokens = add_token_noise(tokens, mirrored(t, mirror) if mirror else t, schedule, generator)
    return drop(tokens, drop_rate, generator) if drop_rate else tokens
