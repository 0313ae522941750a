"""The denoiser: diffusers' U-Net with sketch features added to its running features, and the CLS model's linear layers."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """diffusers' U-Net from a small set of numbers: widths, layers, heads, context width, and which levels have attention."""
    return UNet2DConditionModel(
        sample_size=config["latent_size"],
        in_channels=config["latent_channels"],
        out_channels=config["latent_channels"],
        block_out_channels=tuple(config["widths"]),
        layers_per_block=config["layers"],
        norm_num_groups=config["groups"],
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config["attention"]),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config["attention"])),
        attention_head_dim=tuple(config["heads"]),  # diffusers' name for the number of heads
        cross_attention_dim=config["context_width"],
        use_linear_projection=False,
    )


def denoise(unet: UNet2DConditionModel, z: Tensor, t: Tensor, context: Tensor, sketch: Sequence[Tensor] | None = None) -> Tensor:
    """The noise prediction [B, C, h, w] for z_t [B, C, h, w], t [B], context [B, n, D].

    Sketch features are added to the running features after the input convolution and after each down block, before these are
    kept for the skip connections (the authors' implementation); none of diffusers' own arguments does this.
    """
    embedding = unet.time_embedding(unet.time_proj(t.expand(len(z))).to(z.dtype))
    h = unet.conv_in(z)
    if sketch is not None:
        h = h + sketch[0]
    skips: tuple[Tensor, ...] = (h,)
    for i, block in enumerate(unet.down_blocks):
        h, kept = block(hidden_states=h, temb=embedding, **_cross(block, context))
        if sketch is not None:
            h = h + sketch[i + 1]
            kept = (*kept[:-1], h)
        skips += kept
    h = unet.mid_block(h, embedding, encoder_hidden_states=context)
    for block in unet.up_blocks:
        count = len(block.resnets)
        used, skips = skips[-count:], skips[:-count]
        size = (skips[-1].shape[-2], skips[-1].shape[-1]) if skips else None  # undoes the rounding of odd sides
        h = block(hidden_states=h, temb=embedding, res_hidden_states_tuple=used, upsample_size=size, **_cross(block, context))
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


def _cross(block: nn.Module, context: Tensor) -> dict[str, Tensor]:
    return {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}


class CLSLinear(nn.Module):
    """Cross-attention to one token: softmax over one token is 1, so it is `to_out(to_v(cls))`, one linear layer (paper, 3.3)."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        value, output = attention.to_v, attention.to_out[0]
        self.linear = nn.Linear(value.in_features, output.out_features)
        with torch.no_grad():
            self.linear.weight.copy_(output.weight @ value.weight)
            self.linear.bias.copy_(output.bias)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        return self.linear(encoder_hidden_states).expand(-1, hidden_states.shape[1], -1)


def with_cls_linear(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Replaces every cross-attention by the linear layer that it is for a single token. In place."""
    for module in list(unet.modules()):
        if getattr(module, "attn2", None) is not None:
            module.attn2 = CLSLinear(module.attn2)
            module.norm2.requires_grad_(False)  # a normal form of the queries, which a linear layer has none of
    return unet


class SketchEncoder(nn.Module):
    """Trainable convolutions from the sketch [B, 3, H, W] (-1 = no line) to one feature map a level (paper, 3.3; Figure 5).

    `stem` lists the widths of the strided part, with a halving from each to the next; `widths` are the U-Net's. Maps: one at
    latent size, then one after each down block. Every map ends in a zero-initialised 1x1 convolution, so that training starts at
    the pretrained U-Net.
    """

    def __init__(self, stem: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, stem[0], 3, padding=1), nn.SiLU()]
        for width, following in pairwise(stem):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(width, following, 3, 2, padding=1), nn.SiLU()]
        self.stem = nn.Sequential(*layers, nn.Conv2d(stem[-1], widths[0], 3, padding=1))
        self.first = _zero_conv(widths[0])
        self.blocks = nn.ModuleList()  # each halves in its first convolution, as the authors' do: shapes would not show the place
        self.outputs = nn.ModuleList()
        inner = widths[0]
        for i, width in enumerate(widths):
            stride = 1 if i == len(widths) - 1 else 2
            self.blocks.append(
                nn.Sequential(
                    nn.SiLU(), nn.Conv2d(inner, width, 3, stride, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
                )
            )
            self.outputs.append(_zero_conv(width))
            inner = width

    def forward(self, sketch: Tensor) -> list[Tensor]:
        h = self.stem(sketch)
        maps = [self.first(h)]
        for block, output in zip(self.blocks, self.outputs, strict=True):
            h = block(h)
            maps.append(output(h))
        return maps


def _zero_conv(width: int) -> nn.Conv2d:
    conv = nn.Conv2d(width, width, 1)
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
