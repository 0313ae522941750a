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


def diffusion_loss(predict: Predict, z: Tensor, t: Tensor, tokens: Tensor, noise: Tensor, schedule: Tensor) -> Tensor:
    """Eq. 1 to 3, one value a sample: mean squared error of the predicted noise, [B]."""
    prediction = predict(add_noise(z, noise, t, schedule), t, tokens)
    return (noise - prediction).square().mean((1, 2, 3))


def dual_loss(
    predict: Predict, z: Tensor, t: Tensor, tokens: Tensor, noise: Tensor, noise2: Tensor, weight: float, schedule: Tensor
) -> Tensor:
    """Eq. 4, [B]: the loss with the reference, plus lambda times that of a reference-free pass with a noise of its own.

    Both passes are one batch; `predict` receives [2B] with the reference-free half last and exactly zero tokens there.
    """
    z_t = torch.cat([add_noise(z, noise, t, schedule), add_noise(z, noise2, t, schedule)])
    prediction = predict(z_t, torch.cat([t, t]), torch.cat([tokens, torch.zeros_like(tokens)]))
    error = (torch.cat([noise, noise2]) - prediction).square().mean((1, 2, 3))
    with_reference, without = error.chunk(2)
    return with_reference + weight * without


def min_snr_weight(t: Tensor, gamma: float, schedule: Tensor) -> Tensor:
    """min(SNR, gamma) / SNR, [B]: what Min-SNR weighting (Hang et al. 2023) multiplies a noise-prediction loss by."""
    alpha2 = schedule.to(t.device)[t]
    return (gamma * (1 - alpha2) / alpha2).clamp(max=1)
