"""ControlNet-LLLite by its formula, and its names on the real SDXL."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from src.baselines.lllite import attached, layer_names, load_lllite, new_lllite
from src.weights import WeightsError
from tests.baselines import small


def prediction(unet: Any, rows: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(0)
    x, context = torch.randn(rows, 4, 8, 8, generator=source), torch.randn(rows, 5, 2 * small.WIDTH, generator=source)
    added = {"text_embeds": torch.randn(rows, small.WIDTH, generator=source), "time_ids": torch.full((rows, 6), 64.0)}
    with torch.no_grad():
        return unet(x, 500, context, added_cond_kwargs=added).sample


def condition(rows: int) -> Tensor:
    return torch.rand(rows, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("place", ["down_blocks.1.attentions.0", "down_blocks.2.attentions.0", "mid_block.attentions.0"])
def test_one_layer_by_its_formula(place: str) -> None:
    torch.manual_seed(0)
    unet = small.randomized(small.sdxl_unet())
    modules = small.randomized(new_lllite(unet, 4, 8))
    name = f"{place}.transformer_blocks.0.attn2.to_q"
    layer = unet.get_submodule(name)
    key = {name: key for key, name in layer_names(unet).items()}[name]
    w = modules[key].state_dict()
    shown = 2 * condition(2) - 1
    for i in (0, 2, 4):
        if f"conditioning1.{i}.weight" in w:
            kernel = w[f"conditioning1.{i}.weight"]
            shown = F.conv2d(shown if i == 0 else shown.relu(), kernel, w[f"conditioning1.{i}.bias"], stride=kernel.shape[2])
    seen = shown.flatten(2).mT
    x = torch.randn(4, seen.shape[1], layer.in_features)
    down = F.linear(x, w["down.0.weight"], w["down.0.bias"]).relu()
    mid = F.linear(torch.cat([torch.cat([seen, seen]), down], 2), w["mid.0.weight"], w["mid.0.bias"]).relu()
    expected = layer(x + 0.7 * F.linear(mid, w["up.0.weight"], w["up.0.bias"]))
    with attached(unet, modules, condition(2), 0.7):
        torch.testing.assert_close(layer(x), expected)
    assert not torch.allclose(layer(x), expected, atol=0.01)


def test_in_a_unet_and_out_of_it_again() -> None:
    torch.manual_seed(0)
    unet = small.randomized(small.sdxl_unet())
    modules = small.randomized(new_lllite(unet, 4, 8))
    before = prediction(unet)
    with attached(unet, modules, condition(2)):
        assert not torch.allclose(prediction(unet), before, atol=1e-3)
    with attached(unet, modules, condition(2), 0.0):
        assert torch.equal(prediction(unet), before)
    with pytest.raises(RuntimeError), attached(unet, modules, condition(3)):
        prediction(unet)
    assert torch.equal(prediction(unet), before)
    assert not any(module._forward_pre_hooks for module in unet.modules())
    for module in modules.values():
        for p in module.up.parameters():
            p.zero_()
    with attached(unet, modules, condition(2)):
        assert torch.equal(prediction(unet), before)


def test_names_and_shapes_on_the_real_sdxl() -> None:
    """As networks/control_net_lllite.py names them on the U-Net in LDM's layout, with its places and their depths."""
    with torch.device("meta"):
        unet = small.sdxl_unet(**small.SDXL_UNET)
    places = {"input_blocks_4_1": (640, 2), "input_blocks_5_1": (640, 2)}
    places |= dict.fromkeys(("input_blocks_7_1", "input_blocks_8_1", "middle_block_1"), (1280, 10))
    expected = {}
    for place, (width, blocks) in places.items():
        convolutions = {0: (16, 3, 4, 4), 2: (32, 16, 4, 4)} if width == 640 else {
            0: (16, 3, 4, 4), 2: (16, 16, 4, 4), 4: (32, 16, 2, 2),
        }  # fmt: skip
        for block in range(blocks):
            for layer in ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q"):
                module = f"lllite_unet_{place}_transformer_blocks_{block}_{layer}"
                shapes = {f"conditioning1.{i}": shape for i, shape in convolutions.items()}
                shapes |= {"down.0": (64, width), "mid.0": (64, 96), "up.0": (width, 64)}
                for part, shape in shapes.items():
                    expected[f"{module}.{part}.weight"] = shape
                    expected[f"{module}.{part}.bias"] = shape[:1]
    with torch.device("meta"):
        modules = new_lllite(unet, 64, 32)
    assert {key: tuple(value.shape) for key, value in modules.state_dict().items()} == expected
    assert len(modules) == 136


def test_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = small.sdxl_unet()
    path = small.control_lllite(tmp_path / "folder" / "lllite.safetensors", unet)
    assert all(torch.equal(value, load_file(path)[key]) for key, value in load_lllite(path, unet).state_dict().items())
    with pytest.raises(WeightsError, match="keys differ"):
        load_lllite(path, small.sdxl_unet(transformer_layers_per_block=(1, 1, 1)))
    save_file({"lora.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match="holds no ControlNet-LLLite"):
        load_lllite(tmp_path / "lora.safetensors", unet)
