"""The noise schedule and the training losses (Eq. 1 to 4)."""

from collections.abc import Callable

import torch
from torch import Tensor

T = 1000


def alphas_cumprod(start: float = 0.00085, end: float = 0.012) -> Tensor:
    """Stable Diffusion's scaled-linear schedule: float32 [T], alpha_t squared."""
    return torch.cumprod(1 - torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2, 0).float()


def alpha_beta(t: Tensor, like: Tensor, schedule: Tensor) -> tuple[Tensor, Tensor]:
    """alpha_t and beta_t, shaped to multiply `like` [B, ...]."""
    alpha2 = schedule.to(like.device)[t].view(-1, *(1,) * (like.ndim - 1)).to(like.dtype)
    return alpha2.sqrt(), (1 - alpha2).sqrt()


def add_noise(z: Tensor, noise: Tensor, t: Tensor, schedule: Tensor) -> Tensor:
    """z_t = alpha_t z_0 + beta_t eps (paper, 3.1); the same formula makes the noisy tokens of Eq. 3."""
    alpha, beta = alpha_beta(t, z, schedule)
    return alpha * z + beta * noise


Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # z_t, t, tokens -> prediction, the sketch being the batch's own

PREDICTIONS = ("epsilon", "v")


def target(z: Tensor, noise: Tensor, t: Tensor, schedule: Tensor, prediction: str) -> Tensor:
    """What the network is to predict: `epsilon`, the noise (the paper), or `v` = alpha eps - beta z_0 (Salimans and Ho 2022)."""
    if prediction == "epsilon":
        return noise
    if prediction == "v":
        alpha, beta = alpha_beta(t, z, schedule)
        return alpha * noise - beta * z
    raise ValueError(f"prediction is {prediction!r}; it must be one of {', '.join(PREDICTIONS)}.")


def diffusion_loss(
    predict: Predict, z: Tensor, t: Tensor, tokens: Tensor, noise: Tensor, schedule: Tensor, prediction: str = "epsilon"
) -> Tensor:
    """Eq. 1 to 3, one value a sample: mean squared error of the prediction, [B]."""
    output = predict(add_noise(z, noise, t, schedule), t, tokens)
    return (target(z, noise, t, schedule, prediction) - output.float()).square().mean((1, 2, 3))


def dual_loss(
    predict: Predict,
    z: Tensor,
    t: Tensor,
    tokens: Tensor,
    noise: Tensor,
    noise2: Tensor,
    weight: float,
    schedule: Tensor,
    prediction: str = "epsilon",
) -> Tensor:
    """Eq. 4, [B]: the loss with the reference, plus lambda times that of a reference-free pass with a noise of its own.

    Both passes are one batch; `predict` receives [2B] with the reference-free half last and exactly zero tokens there.
    """
    both = diffusion_loss(
        predict,
        torch.cat([z, z]),
        torch.cat([t, t]),
        torch.cat([tokens, torch.zeros_like(tokens)]),
        torch.cat([noise, noise2]),
        schedule,
        prediction,
    )
    with_reference, without = both.chunk(2)
    return with_reference + weight * without


def min_snr_weight(t: Tensor, gamma: float, schedule: Tensor, prediction: str = "epsilon") -> Tensor:
    """What Min-SNR weighting (Hang et al. 2023) multiplies the loss by, [B]: min(SNR, gamma) / SNR, or / (SNR + 1) for v."""
    alpha2 = schedule.to(t.device)[t]
    beta2 = 1 - alpha2
    return (gamma * beta2 / alpha2).clamp(max=1) if prediction == "epsilon" else torch.minimum(alpha2, gamma * beta2)


def offset(noise: Tensor, strength: float, generator: torch.Generator | None = None) -> Tensor:
    """Noise [B, C, h, w] plus `strength` times one normal number a sample and channel (offset noise), so that a picture's mean
    brightness is denoised as well.
    """
    shift = torch.randn((*noise.shape[:2], 1, 1), generator=generator, device=noise.device, dtype=noise.dtype)
    return noise + strength * shift
