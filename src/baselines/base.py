"""Text-to-image models that adapters sit on: a U-Net with what turns words into its context and latents into pictures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from src.backbone.parts import Backbone


@dataclass(frozen=True)
class Text:
    """Prompts as a U-Net takes them: context [B, L, D], and SDXL's further conditions [B, ...] by diffusers' names."""

    context: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)


class Base(ABC):
    """A text-to-image model. Tensors are on the device of its U-Net, floating ones float32 where they leave it.

    unet: diffusers' own, with diffusers' processors. size: pixels of a side that it was trained at; factor: of those to a latent's;
    embedding: width of `images`; fingerprint: of all weights but the U-Net's. cached: a data set's columns latent and tokens are by
    this base's VAE and CLIP.
    """

    unet: Any
    size: int
    factor: int
    embedding: int
    fingerprint: str
    prediction: str = "epsilon"
    cached: bool = False

    @abstractmethod
    def texts(self, prompts: Sequence[str]) -> Text:
        """The prompts, one a row."""

    @abstractmethod
    def images(self, references: Tensor) -> Tensor:
        """What an IP-Adapter knows of references [B, 3, H, W] in [-1, 1]: CLIP's image embedding, unnormalised, [B, D]."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Mean latents [B, C, h, w] of images [B, 3, H, W] in [-1, 1]."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """uint8 images [B, H, W, 3]."""

    @abstractmethod
    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Base":
        """Moves all parts; dtype: what the U-Net computes in."""

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.unet.config.in_channels


class BackboneBase(Base):
    """A U-Net that was trained here, on the VAE and the CLIP of a backbone of ours."""

    cached = True

    def __init__(self, unet: nn.Module, backbone: Backbone) -> None:
        self.unet, self.backbone = unet, backbone
        self.size, self.factor = backbone.size, backbone.size // backbone.latent_size
        self.embedding, self.fingerprint = backbone.context_width, backbone.fingerprint

    def texts(self, prompts: Sequence[str]) -> Text:
        from src.backbone.clip import text_tokens

        ids = self.backbone.vocabulary(prompts).to(self._device)
        return Text(text_tokens(self.backbone.clip, ids).float())

    def images(self, references: Tensor) -> Tensor:
        return self.backbone.tokens(references)[:, 0]

    def encode(self, images: Tensor) -> Tensor:
        return self.backbone.encode(images)[0]

    def decode(self, latents: Tensor) -> Tensor:
        return self.backbone.decode(latents)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "BackboneBase":
        torch.nn.Module.to(self.unet, device, dtype)  # diffusers' own warns of nothing
        self.backbone.to(device)
        return self

    @property
    def _device(self) -> torch.device:
        return next(self.backbone.clip.parameters()).device
