"""A colorizer: the denoiser with its sketch encoder, as a file and as a function of (z_t, t, tokens, sketch features)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.backbone.parts import WeightsError, load_card, load_weights
from src.model.unet import SketchEncoder, build_unet, denoise, with_cls_linear


class Colorizer(nn.Module):
    """The paper's models: kind `attention` has local tokens and cross-attention, kind `cls` the CLS token and linear layers."""

    def __init__(self, network: Mapping[str, Any], kind: str, unet: nn.Module | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.unet = build_unet(network) if unet is None else unet
        if kind == "cls":
            with_cls_linear(self.unet)
        self.sketch_encoder = SketchEncoder(network["stem"], network["widths"])
        self.to(memory_format=torch.channels_last)

    def used(self, tokens: Tensor) -> Tensor:
        """The part of CLIP's tokens [B, 1 + n, D] that this kind of model looks at."""
        return tokens[:, :1] if self.kind == "cls" else tokens[:, 1:]

    def features(self, sketch: Tensor) -> list[Tensor]:
        """Sketch features, one map a level; they depend on neither t nor the reference, so sampling computes them once."""
        return self.sketch_encoder(sketch)

    def forward(self, z: Tensor, t: Tensor, tokens: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Noise prediction [B, C, h, w]."""
        return denoise(self.unet, z, t, tokens, features)


def pretrained(network: Mapping[str, Any], kind: str, directory: Path) -> Colorizer:
    """A colorizer whose U-Net starts from the backbone's text-to-image U-Net (paper, 3.3), its sketch encoder from zero."""
    unet = load_weights(directory / "t2i", build_unet(network))
    return Colorizer(network, kind, unet.train())


def load_colorizer(stem: Path, backbone_fingerprint: str) -> tuple[Colorizer, dict[str, Any]]:
    """A trained colorizer and its card. WeightsError if it was trained on another backbone."""
    card = load_card(stem)
    missing = {"network", "kind", "backbone"} - card.keys()
    if missing:
        raise WeightsError(f"{stem}.json is not the card of a colorizer: it lacks {', '.join(sorted(missing))}.")
    if card["backbone"] != backbone_fingerprint:
        raise WeightsError(
            f"{stem} was trained on the backbone {card['backbone']}, the configured one is {backbone_fingerprint}. "
            "Choose its backbone with `backbone=` or train again."
        )
    colorizer = Colorizer(card["network"], card["kind"])
    load_weights(stem, colorizer)
    return colorizer.to(memory_format=torch.channels_last), card
