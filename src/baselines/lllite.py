"""ControlNet-LLLite (kohya-ss 2023, networks/control_net_lllite.py in sd-scripts): small networks in front of the attentions'
linear layers in the first half and the middle of SDXL's U-Net, which see a picture of the lines. diffusers has no class for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.weights import WeightsError, check_fit, find, read_weights

_LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_q")  # what attn2 makes of the text has no places


class Module(nn.Module):
    """In front of one linear layer of `width` inputs: x + scale * up(mid(condition's part | down(x))).

    The condition is brought to the layer's size, 1/8 (depth 1), 1/16 (2) or 1/32 (3) of the picture's side.
    """

    def __init__(self, width: int, depth: int, inner: int, condition: int) -> None:
        super().__init__()
        half = condition // 2
        convolutions: dict[int, list[nn.Module]] = {
            1: [nn.Conv2d(half, condition, 2, 2)],
            2: [nn.Conv2d(half, condition, 4, 4)],
            3: [nn.Conv2d(half, half, 4, 4), nn.ReLU(), nn.Conv2d(half, condition, 2, 2)],
        }
        self.conditioning1 = nn.Sequential(nn.Conv2d(3, half, 4, 4), nn.ReLU(), *convolutions[depth])
        self.down = nn.Sequential(nn.Linear(width, inner), nn.ReLU())
        self.mid = nn.Sequential(nn.Linear(inner + condition, inner), nn.ReLU())
        self.up = nn.Sequential(nn.Linear(inner, width))

    def seen(self, condition: Tensor) -> Tensor:
        """[B, places, channels] of a condition [B, 3, H, W] in [-1, 1]."""
        return self.conditioning1(condition).flatten(2).transpose(1, 2)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """What is added to x [B, places, width]."""
        return self.up(self.mid(torch.cat([seen, self.down(x)], 2)))


def layer_names(unet: Any) -> dict[str, str]:
    """Names of the linear layers of a U-Net of diffusers that LLLite sits on, by their names in its files.

    Files number the blocks of the first half in a row as LDM does: a convolution first, then each level's layers, and its halving.
    """
    starts, start = [], 1
    for block in unet.down_blocks:
        starts.append(start)
        start += len(block.resnets) + (1 if block.downsamplers else 0)
    names = {}
    for name, module in unet.named_modules():
        if not (isinstance(module, nn.Linear) and name.endswith(_LAYERS)):
            continue
        part, *rest = name.split(".")
        if part == "down_blocks":
            level, _, layer, *rest = rest
            place = f"input_blocks.{starts[int(level)] + int(layer)}.1"
        elif part == "mid_block":
            place, rest = "middle_block.1", rest[2:]
        else:
            continue
        names[".".join(("lllite_unet", place, *rest)).replace(".", "_")] = name
    return names


def load_lllite(source: str | Path, unet: Any) -> nn.ModuleDict:
    """LLLite's modules for a U-Net of SDXL, by the files' names, in float32, frozen.

    The U-Net may be on the meta device. WeightsError names the first keys that differ from those that this U-Net needs.
    """
    path = find(source)
    weights = {key: value.float() for key, value in read_weights(path).items()}
    inner = next((value.shape[0] for key, value in weights.items() if key.endswith(".down.0.weight")), 0)
    half = next((value.shape[0] for key, value in weights.items() if key.endswith(".conditioning1.0.weight")), 0)
    if not inner or not half:
        raise WeightsError(f"{path} holds no ControlNet-LLLite: its keys end in .down.0.weight and .conditioning1.0.weight.")
    modules = new_lllite(unet, inner, 2 * half)
    check_fit(path, weights, modules)
    modules.load_state_dict(weights)
    return modules.eval().requires_grad_(False)


def new_lllite(unet: Any, inner: int, condition: int) -> nn.ModuleDict:
    """Random modules for a U-Net. inner, condition: their widths within, 64 and 32 in the public file for canny edges."""
    levels = list(unet.down_blocks)
    modules = nn.ModuleDict()
    for key, name in layer_names(unet).items():
        level = int(name.split(".")[1]) if name.startswith("down_blocks") else len(levels) - 1
        modules[key] = Module(unet.get_submodule(name).in_features, level + 1, inner, condition)
    return modules


@contextmanager
def attached(unet: Any, modules: nn.ModuleDict, condition: Tensor, scale: float = 1.0) -> Iterator[None]:
    """Within it the U-Net's layers see the condition [B, 3, H, W] in [0, 1]; its batches are of B rows, or a multiple of B.

    The modules take the U-Net's device and precision. They look at the condition once, not at each step. After it the U-Net is as
    it was.
    """
    names, weight = layer_names(unet), next(unet.parameters())
    shown = 2 * condition.to(weight) - 1
    handles = []
    try:
        for key, module in modules.to(weight.device, weight.dtype).items():
            layer = unet.get_submodule(names[key])
            handles.append(layer.register_forward_pre_hook(_hook(module, shown, scale)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(module: Any, shown: Tensor, scale: float) -> Any:
    seen = module.seen(shown)

    def change(_: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor]:
        x = inputs[0]
        return (x + scale * module(x, seen.repeat(x.shape[0] // seen.shape[0], 1, 1)),)

    return change
