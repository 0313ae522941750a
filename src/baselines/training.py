"""Training of what the baselines are made of: a base, and ControlNet, IP-Adapter and T2I-Adapter on a frozen one."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from src.backbone.parts import sketch_to_input, to_input
from src.baselines.adapters import attach_ip_adapter, new_controlnet, new_ip_adapter, new_t2i_adapter
from src.baselines.base import Base
from src.model.diffusion import T, add_noise, min_snr_weight, target
from src.model.training import Fitting

CLASSES = {"unet": "UNet2DConditionModel", "controlnet": "ControlNetModel", "t2i_adapter": "T2IAdapter"}  # diffusers'


def columns_of(base: Base) -> list[str]:
    """The columns that a training on a base reads: cached features where they are the base's own, else images."""
    return ["latent", "tokens", "sketch", "meta"] if base.cached else ["color", "sketch", "meta"]


def new_part(kind: str, base: Base, start: Any = None) -> nn.Module:
    """The part to be trained, in the base where it belongs there. start: an IP-Adapter's weights, of the others the network."""
    base.unet.requires_grad_(False)
    if kind == "ip_adapter":
        weights = start or new_ip_adapter(base.unet, base.embedding)
        return attach_ip_adapter(base.unet, weights).requires_grad_(True)
    fresh: dict[str, Callable[[], Any]] = {
        "unet": lambda: base.unet,
        "controlnet": lambda: new_controlnet(base.unet, base.factor),
        "t2i_adapter": lambda: new_t2i_adapter(base.unet, base.factor),
    }
    return (start or fresh[kind]()).requires_grad_(True).train()


class PartTraining(Fitting):
    """One training step of a part of kind `kind` (Eq. 1, conditioned on the caption and on what the part is shown).

    options: caption_drop and image_drop, the shares of captions that are empty and of image embeddings that are zero (Ye et al.
    2023); min_snr (gamma; 0 = off).
    """

    def __init__(
        self, part: nn.Module, base: Base, kind: str, options: Mapping[str, Any], optimizer: dict[str, Any], seed: int
    ) -> None:
        super().__init__(optimizer, seed)
        self.part, self.kind, self.options = part, kind, options
        self.base = [base]  # in a list, so that torch does not take it for a part of the module

    @property
    def trained(self) -> nn.Module:
        return self.part

    def on_train_start(self) -> None:
        super().on_train_start()
        self.base[0].to(self.device)

    def losses(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Losses [B] and timesteps [B] of a batch: `caption`, `sketch` uint8 [B, H, W], and cached `mean`, `std` [B, C, h, w] with
        `tokens` [B, 1 + n, D], or `color` uint8 [B, H, W, 3].
        """
        (base,) = self.base

        def normal(like: Tensor) -> Tensor:
            return torch.randn(like.shape, generator=generator, device=like.device)

        def dropped(rate: float) -> Tensor:
            return torch.rand(len(batch["key"]), generator=generator, device=self.device) < rate

        with torch.no_grad():
            image = None
            if "mean" in batch:
                z = batch["mean"] + batch["std"] * normal(batch["std"])
                image = batch["tokens"][:, 0].float()
            else:
                z = base.encode(to_input(batch["color"]))
                if self.kind == "ip_adapter":
                    image = base.images(to_input(batch["color"]))
            empty = dropped(self.options["caption_drop"]).tolist()
            text = base.texts(["" if gone else caption for gone, caption in zip(empty, batch["caption"], strict=True)])
        t = torch.randint(T, (len(z),), generator=generator, device=self.device)
        noise = normal(z)
        z_t = add_noise(z, noise, t, self.schedule).contiguous(memory_format=torch.channels_last)
        added: dict[str, Any] = dict(text.added)
        more: dict[str, Any] = {}
        if self.kind == "ip_adapter" and image is not None:
            kept = ~dropped(self.options["image_drop"])
            added["image_embeds"] = [(image * kept[:, None])[:, None]]
        if self.kind in {"controlnet", "t2i_adapter"}:
            condition = (sketch_to_input(batch["sketch"]) + 1) / 2
            if self.kind == "controlnet":
                down, mid = self.part(z_t, t, text.context, condition, added_cond_kwargs=added or None, return_dict=False)
                more = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
            else:
                more = {"down_intrablock_additional_residuals": self.part(condition)}
        output = base.unet(z_t, t, text.context, added_cond_kwargs=added or None, return_dict=False, **more)[0].float()
        losses = (target(z, noise, t, self.schedule, base.prediction) - output).square().mean((1, 2, 3))
        if self.options["min_snr"]:
            losses = losses * min_snr_weight(t, self.options["min_snr"], self.schedule, base.prediction)
        return losses, t
