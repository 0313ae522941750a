"""A colorizer: the denoiser with its sketch encoder, as a file and as a function of (z_t, t, tokens, sketch features)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.backbone.parts import load_card, load_weights
from src.files import file_sha256
from src.model.attention import Call, Kept, reference_states
from src.model.unet import SketchEncoder, build_unet, denoise, with_cls_linear
from src.weights import WeightsError


class Colorizer(nn.Module):
    """The paper's models: kind `attention` has local tokens and cross-attention, kind `cls` the CLS token and linear layers.

    `prediction`: what the output means, `epsilon` (the paper) or `v`.
    """

    def __init__(self, network: Mapping[str, Any], kind: str, unet: nn.Module | None = None, prediction: str = "epsilon") -> None:
        super().__init__()
        self.kind, self.prediction = kind, prediction
        self.unet = build_unet(network) if unet is None else unet
        if kind == "cls":
            with_cls_linear(self.unet)
        self.sketch_encoder = SketchEncoder(network["stem"], network["widths"])
        self.to(memory_format=torch.channels_last)

    def used(self, tokens: Tensor) -> Tensor:
        """The part of CLIP's tokens [B, 1 + n, D] that this kind of model looks at."""
        return tokens[:, :1] if self.kind == "cls" else tokens[:, 1:]

    def features(self, sketch: Tensor, control_scale: float = 1.0) -> list[Tensor]:
        """Sketch features, one map a level; they depend on neither t nor the reference, so sampling computes them once.

        control_scale: a factor of all maps, 1 as trained, 0 as without a sketch (what ControlNet calls its control scale).
        """
        maps = self.sketch_encoder(sketch)
        return maps if control_scale == 1 else [control_scale * level for level in maps]

    def reference(self, tokens: Tensor, strength: float | Sequence[float] = 1.0) -> list[Kept]:
        """What the network keeps of reference tokens [B, n, D] for a `Call`: see `reference_states`."""
        return reference_states(self.unet, tokens, strength)

    def forward(
        self,
        z: Tensor,
        t: Tensor,
        tokens: Tensor | None,
        features: Sequence[Tensor] | None = None,
        *,
        sketch: Tensor | None = None,
        call: Call | None = None,
    ) -> Tensor:
        """The prediction [B, C, h, w] for z_t [B, C, h, w], t [B] or [1] and tokens [B, n, D] or a sampler's `call`.

        Give the sketch's features, or the sketch [b, 3, H, W] itself, B a multiple of b: dual training has two passes over it.
        """
        if features is None:
            if sketch is None:
                raise ValueError("a colorizer needs the features of a sketch, or the sketch")
            repeats = len(z) // len(sketch)
            features = self.features(sketch)
            features = [f.repeat(repeats, 1, 1, 1) for f in features] if repeats > 1 else features
        return denoise(self.unet, z, t, tokens, features, call)


def pretrained(options: Mapping[str, Any], kind: str, prediction: str = "epsilon") -> Colorizer:
    """A colorizer whose U-Net starts from the text-to-image U-Net of a configuration of `conf/backbone` (paper, 3.3), its sketch
    encoder from zero. A whole colorizer in `parts.colorizer`, one of the authors' released ones, is the start instead if given.
    """
    network = options["unet"]
    parts = options.get("parts")
    if parts and "colorizer" in parts:
        from src.backbone.released import released_weights

        colorizer = Colorizer(network, kind, prediction=prediction)
        colorizer.load_state_dict(released_weights(parts["colorizer"], colorizer))
        return colorizer
    if parts:
        from src.backbone.pretrained import unet_weights

        unet = build_unet(network)
        unet.load_state_dict(unet_weights(parts["unet"], unet))
    else:
        unet = load_weights(Path(options["directory"]) / "t2i", build_unet(network))
    return Colorizer(network, kind, unet.train(), prediction)


def source_of(options: Mapping[str, Any]) -> str:
    """The sha256 of the weights that `pretrained` starts from."""
    parts = options.get("parts")
    if parts:
        from src.backbone.pretrained import find, unet_file

        return file_sha256(find(parts["colorizer"]) if "colorizer" in parts else unet_file(parts["unet"]))
    return load_card(Path(options["directory"]) / "t2i")["sha256"]


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
    colorizer = Colorizer(card["network"], card["kind"], prediction=card.get("loss", {}).get("prediction", "epsilon"))
    load_weights(stem, colorizer)
    return colorizer.to(memory_format=torch.channels_last), card
