"""The demo's autoencoder: all its work at a quarter of the image's side, so that two cores can train it.

Same interface as a Stable Diffusion VAE behind `src.backbone.parts`: `encode` gives mean and standard deviation of the latent,
`decode` the image. Latents are scaled to unit variance by `scaling_factor`, as in Rombach et al. 2022.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x))))


class PatchVAE(nn.Module):
    """Images [B, 3, H, W] in [-1, 1] to latents [B, channels, H / patch, W / patch]."""

    scaling_factor: Tensor

    def __init__(
        self, width: int = 96, channels: int = 4, patch: int = 4, encoder: int = 3, decoder: int = 5, head: int = 24
    ) -> None:
        super().__init__()
        self.config = dict(width=width, channels=channels, patch=patch, encoder=encoder, decoder=decoder, head=head)
        self.register_buffer("scaling_factor", torch.tensor(1.0))
        self.stem = nn.Conv2d(3, width, patch + 4, patch, padding=2)
        self.encoder = nn.Sequential(*(_Residual(width) for _ in range(encoder)), nn.GroupNorm(8, width))
        self.to_moments = nn.Conv2d(width, 2 * channels, 1)
        self.from_latent = nn.Conv2d(channels, width, 3, padding=1)
        self.decoder = nn.Sequential(*(_Residual(width) for _ in range(decoder)), nn.GroupNorm(8, width))
        self.to_pixels = nn.Sequential(nn.Conv2d(width, head * patch**2, 1), nn.PixelShuffle(patch))
        self.refine = nn.Sequential(nn.Conv2d(head, head, 3, padding=1), nn.SiLU(), nn.Conv2d(head, head, 3, padding=1), nn.SiLU())
        self.to_rgb = nn.Conv2d(head, 3, 3, padding=1)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latent, each [B, channels, h, w]."""
        mean, log_variance = self.to_moments(F.silu(self.encoder(self.stem(images)))).chunk(2, 1)
        std = torch.exp(0.5 * log_variance.clamp(-20, 4))
        return mean * self.scaling_factor, std * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W], not clamped."""
        h = self.decoder(self.from_latent(latents / self.scaling_factor))
        h = self.to_pixels(F.silu(h))
        return self.to_rgb(h + self.refine(h))


def vae_loss(vae: PatchVAE, images: Tensor, kl_weight: float) -> tuple[Tensor, Tensor]:
    """Evidence bound (Kingma and Welling 2014): L1 plus squared error of the reconstruction plus weighted KL. And the PSNR in dB.

    L1 keeps thin lines crisp; the squared error is what PSNR is measured in.
    """
    mean, std = vae.encode(images)
    output = vae.decode(mean + std * torch.randn_like(std))
    squared = F.mse_loss(output, images)
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.clamp_min(1e-8).log()).mean()
    psnr = 10 * torch.log10(4 / squared.detach())
    return squared + 0.1 * F.l1_loss(output, images) + kl_weight * kl, psnr
