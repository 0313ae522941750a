"""The denoiser: diffusers' U-Net with sketch features added to its running features, and the sketch encoder."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from src.model.attention import Call, CLSLinear, install, normalised


def build_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
    """The U-Net of a colorizer: a text-to-image model's, with attentions that understand a sampler's `Call`."""
    unet = text_to_image_unet(config)
    install(unet)
    return unet


def text_to_image_unet(config: Mapping[str, Any]) -> UNet2DConditionModel:
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


def denoise(
    unet: UNet2DConditionModel,
    z: Tensor,
    t: Tensor,
    context: Tensor | None,
    sketch: Sequence[Tensor] | None = None,
    call: Call | None = None,
) -> Tensor:
    """The prediction [B, C, h, w] for z_t [B, C, h, w], t [B] or [1], context [B, n, D].

    Sketch features are added to the running features after the input convolution and after each down block, before these are
    kept for the skip connections (the authors' implementation); none of diffusers' own arguments does this.

    call: in place of `context`, what a sampler knows. Its first `absent` rows come once more without reference, at the end of the
    output: [B + absent, C, h, w]. Up to the first cross-attention they are the same, so they are computed once.
    """
    embedding = unet.time_embedding(unet.time_proj(t).to(z.dtype))
    told = {"encoder_hidden_states": context, "cross_attention_kwargs": {"call": call} if call else None, "return_dict": False}
    waiting = call.absent if call else 0
    maps, skips = list(sketch or ()), list[Tensor]()

    def again(h: Tensor) -> Tensor:
        nonlocal waiting, skips, maps
        if waiting:
            h, *skips = (torch.cat([x, x[:waiting]]) for x in (h, *skips))
            maps = [torch.cat([x, x[:waiting]]) for x in maps]
            waiting = 0
        return h

    def layer(block: Any, resnet: nn.Module, attention: nn.Module | None, h: Tensor) -> Tensor:
        if torch.is_grad_enabled() and block.gradient_checkpointing:
            h = block._gradient_checkpointing_func(resnet, h, embedding)
        else:
            h = resnet(h, embedding)
        if attention is not None:
            h = attention(again(h), **told)[0]
        return h

    def styled(h: Tensor, name: str) -> Tensor:
        return normalised(h, name, call) if call else h

    h = unet.conv_in(z)
    if maps:
        h = h + maps[0]
    skips.append(h)
    if call and call.chain:  # its states change every pass in its own way, from the first layer on
        h = again(h)
    for i, block in enumerate(unet.down_blocks):
        for resnet, attention in _layers(block):
            h = styled(layer(block, resnet, attention, h), f"down.{i}")
            skips.append(h)
        for downsampler in block.downsamplers or ():
            h = downsampler(h)
            skips.append(h)
        if maps:
            skips[-1] = h = h + maps[i + 1]
    for resnet, attention in zip(unet.mid_block.resnets, (*unet.mid_block.attentions, None), strict=True):
        h = layer(unet.mid_block, resnet, attention, h)
    h = styled(h, "middle")
    for i, block in enumerate(unet.up_blocks):
        for resnet, attention in _layers(block):
            h = styled(layer(block, resnet, attention, torch.cat([h, skips.pop()], 1)), f"up.{i}")
        for upsampler in block.upsamplers or ():
            h = upsampler(h, (skips[-1].shape[-2], skips[-1].shape[-1]))  # undoes the rounding of odd sides
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


def _layers(block: Any) -> Iterable[tuple[nn.Module, nn.Module | None]]:
    """The residual blocks of a block of the U-Net, each with its attention."""
    return zip(block.resnets, getattr(block, "attentions", [None] * len(block.resnets)), strict=True)


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
