"""The authors' checkpoint layout: complete lists of names and shapes, and its own forward pass written out by name."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from src.backbone.pretrained import UNET_PREFIX
from src.backbone.released import released_prediction, released_weights
from src.model.colorizer import Colorizer
from src.weights import WeightsError
from tests.backbone.test_pretrained import SMALL, Shapes, full_size, layer, ldm_unet, meta, random, shapes_of

ENCODER_PREFIX = "control_encoder."
LEFT_OUT = {
    "betas": (1000,), "scale_factor": (), "first_stage_model.quant_conv.bias": (8,), "cond_stage_model.visual.model.proj": (2, 2),
    "model_ema.decay": (), "model_ema.diffusion_modelout2bias": (4,),
}  # fmt: skip


def sketch_encoder(network: dict[str, Any]) -> Shapes:
    """Names and shapes of the authors' sketch encoder: its strided part, the first map, and a block and a map a level."""
    shapes: Shapes = {}
    stem, widths = network["stem"], network["widths"]
    inner = [stem[0], *(w for pair in pairwise(stem) for w in pair), widths[0]]
    for i, (given, width) in enumerate(zip([3, *inner], inner, strict=False)):
        layer(shapes, f"model.{2 * i}", width, given, 3, 3)
    layer(shapes, "zero_layer.0", widths[0], widths[0], 1, 1)
    for i, (given, width) in enumerate(zip([widths[0], *widths], widths, strict=False)):
        layer(shapes, f"output_blocks.{i}.1", width, given, 3, 3)
        layer(shapes, f"output_blocks.{i}.3", width, width, 3, 3)
        layer(shapes, f"zero_blocks.{i}.0", width, width, 1, 1)
    return shapes


def test_the_whole_layout_maps_onto_the_full_size_colorizer(tmp_path: Path) -> None:
    network = full_size("sd21")
    with torch.device("meta"):
        colorizer = Colorizer(network, "attention").eval()
    unet, encoder = ldm_unet(network), sketch_encoder(network)
    assert sum(int(np.prod(s)) for s in encoder.values()) == 63_970_960 and len(unet) + len(encoder) == 728
    file = tmp_path / "mult.pt"
    torch.save(meta(unet, UNET_PREFIX) | meta(encoder, ENCODER_PREFIX) | meta(LEFT_OUT), file)
    assert shapes_of(released_weights(file, colorizer)) == shapes_of(colorizer.state_dict())
    assert sum(p.numel() for p in colorizer.parameters()) == 865_910_724 + 63_970_960


def write(file: Path, extra: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    weights = random(ldm_unet(SMALL), UNET_PREFIX) | random(sketch_encoder(SMALL), ENCODER_PREFIX) | random(LEFT_OUT)
    save_file(weights | (extra or {}), file)
    return weights


@torch.no_grad()
def test_loaded_weights_compute_what_the_layout_computes(tmp_path: Path) -> None:
    """Catches what shapes cannot show: layers exchanged for their likes, strides, heads, and where the sketch is added."""
    weights = write(tmp_path / "mult.safetensors")
    colorizer = Colorizer(SMALL, "attention").eval()
    colorizer.load_state_dict(released_weights(tmp_path / "mult.safetensors", colorizer))
    z, t, context, sketch = torch.randn(2, 4, 8, 8), torch.tensor([7, 800]), torch.randn(2, 5, 24), torch.rand(2, 3, 64, 64)
    hints = ldm_sketch_features(weights, sketch)
    features = colorizer.features(sketch)
    assert [tuple(h.shape[1:]) for h in hints] == [(32, 8, 8), (32, 4, 4), (64, 2, 2), (64, 2, 2)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(features, hints, strict=True))
    wanted = ldm_forward(weights, z, t, context, hints)
    assert torch.allclose(colorizer(z, t, context, features), wanted, atol=1e-4, rtol=1e-4)
    assert wanted.std() > 0.1


def ldm_sketch_features(weights: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = weights[f"{ENCODER_PREFIX}{name}.weight"]
        return F.conv2d(x, weight, weights[f"{ENCODER_PREFIX}{name}.bias"], stride, weight.shape[-1] // 2)

    for i in range(0, 15, 2):
        x = conv(f"model.{i}", F.silu(x) if i else x, 2 if i in {4, 8, 12} else 1)
    maps = [conv("zero_layer.0", x)]
    for i in range(3):
        x = conv(f"output_blocks.{i}.1", F.silu(x), 1 if i == 2 else 2)
        x = conv(f"output_blocks.{i}.3", F.silu(x))
        maps.append(conv(f"zero_blocks.{i}.0", x))
    return maps


def ldm_forward(weights: dict[str, Tensor], z: Tensor, t: Tensor, context: Tensor, hints: list[Tensor]) -> Tensor:
    """The U-Net in LDM's layout, block after block; hints join after the blocks that end a level (inputs 0, 3, 6 and 8 here)."""
    has = {k.removeprefix(UNET_PREFIX) for k in weights}

    def get(name: str) -> tuple[Tensor, Tensor | None]:
        return weights[f"{UNET_PREFIX}{name}.weight"], weights.get(f"{UNET_PREFIX}{name}.bias")

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, *get(name))

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = get(name)
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def group(name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        return F.group_norm(x, 32, *get(name), eps=eps)

    def attention(name: str, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            linear(f"{name}.to_{p}", y).unflatten(-1, (-1, 16)).transpose(1, 2)
            for p, y in zip("qkv", (x, context, context), strict=True)
        )
        weight = (q @ k.transpose(-1, -2) / 16**0.5).softmax(-1)
        return linear(f"{name}.to_out.0", (weight @ v).transpose(1, 2).flatten(2))

    def transformer(name: str, x: Tensor) -> Tensor:
        h, block = conv(f"{name}.proj_in", group(f"{name}.norm", x, 1e-6)), f"{name}.transformer_blocks.0"
        h = h.flatten(2).transpose(1, 2)
        y = F.layer_norm(h, h.shape[-1:], *get(f"{block}.norm1"))
        h = h + attention(f"{block}.attn1", y, y)
        h = h + attention(f"{block}.attn2", F.layer_norm(h, h.shape[-1:], *get(f"{block}.norm2")), context)
        value, gate = linear(f"{block}.ff.net.0.proj", F.layer_norm(h, h.shape[-1:], *get(f"{block}.norm3"))).chunk(2, -1)
        h = h + linear(f"{block}.ff.net.2", value * F.gelu(gate))
        return x + conv(f"{name}.proj_out", h.transpose(1, 2).unflatten(2, x.shape[2:]))

    def residual(name: str, x: Tensor) -> Tensor:
        h = conv(f"{name}.in_layers.2", F.silu(group(f"{name}.in_layers.0", x)))
        h = h + linear(f"{name}.emb_layers.1", F.silu(embedding))[:, :, None, None]
        h = conv(f"{name}.out_layers.3", F.silu(group(f"{name}.out_layers.0", h)))
        return h + (conv(f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in has else x)

    def block(name: str, x: Tensor) -> Tensor:
        for i in range(3):
            part = f"{name}.{i}"
            if f"{part}.in_layers.0.weight" in has:
                x = residual(part, x)
            elif f"{part}.proj_in.weight" in has:
                x = transformer(part, x)
            elif f"{part}.op.weight" in has:
                x = conv(f"{part}.op", x, 2)
            elif f"{part}.conv.weight" in has:
                x = conv(f"{part}.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
            elif f"{part}.weight" in has:
                x = conv(part, x)
        return x

    angles = t[:, None] * torch.exp(-np.log(10000) * torch.arange(16) / 16)
    embedding = linear("time_embed.2", F.silu(linear("time_embed.0", torch.cat([angles.cos(), angles.sin()], -1))))
    h, skips, joins = z, [], dict(zip((0, 3, 6, 8), hints, strict=True))
    for i in range(9):
        h = block(f"input_blocks.{i}", h) + joins.get(i, torch.zeros(()))
        skips.append(h)
    h = block("middle_block", h)
    for i in range(9):
        h = block(f"output_blocks.{i}", torch.cat([h, skips.pop()], 1))
    return conv("out.2", F.silu(group("out.0", h)))


def test_other_files_are_named_by_their_first_keys(tmp_path: Path) -> None:
    file, colorizer = tmp_path / "mult.safetensors", Colorizer(SMALL, "attention").eval()
    weights = write(file, {"proj.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"1 keys differ: proj.weight: file \(1,\), model nothing"):
        released_weights(file, colorizer)
    write(file, {f"{UNET_PREFIX}style_modules.0.0.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"1 keys are foreign: style_modules.0.0.weight"):
        released_weights(file, colorizer)
    save_file({k: v for k, v in weights.items() if k != "control_encoder.zero_blocks.1.0.bias"}, file)
    with pytest.raises(WeightsError, match=r"1 keys differ: sketch_encoder.outputs.1.bias: file nothing"):
        released_weights(file, colorizer)
    write(file)
    with pytest.raises(WeightsError, match=r"keys differ: unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.linear.bias"):
        released_weights(file, Colorizer(SMALL, "cls"))
    with pytest.raises(WeightsError, match="is more than one file"):
        released_weights(tmp_path, colorizer)


def test_the_name_tells_the_prediction() -> None:
    assert released_prediction("tellurion/ColorizeDiffusion:mult-eps.safetensors") == "epsilon"
    assert released_prediction(Path("/steps/mult.safetensors")) == "v"
