"""ControlNet, IP-Adapter and T2I-Adapter: diffusers' own classes, started from a base, read and written in diffusers' formats."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from src.files import write_atomically, write_json
from src.weights import WeightsError, check_fit, find, read_weights

WEIGHTS, CONFIG, CARD = "diffusion_pytorch_model.safetensors", "config.json", "card.json"
FOLDER_FILES = (WEIGHTS, "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin")
IP_TOKENS = 4  # context tokens that IP-Adapter (Ye et al. 2023) makes of an image embedding


def new_controlnet(unet: Any, factor: int) -> Any:
    """A ControlNet (Zhang et al. 2023) that starts as a copy of a U-Net's first half. factor: of pixels to a latent's."""
    from diffusers import ControlNetModel

    width = unet.config.block_out_channels[0]
    halvings = factor.bit_length() - 1
    widths = (16, 32, 96, 256) if halvings == 3 else tuple(max(8, width >> (halvings - i)) for i in range(halvings + 1))
    return ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=widths)


def new_t2i_adapter(unet: Any, factor: int) -> Any:
    """A T2I-Adapter (Mou et al. 2023) for a U-Net: `full_adapter_xl` where the first level has no attention, as in SDXL, else
    `full_adapter`.
    """
    from diffusers import T2IAdapter

    widths, first = list(unet.config.block_out_channels), unet.config.down_block_types[0]
    if first == "DownBlock2D":  # its features are added after the first level has halved
        widths += [widths[-1]] * (4 - len(widths))
        return T2IAdapter(3, widths, 2, 2 * factor, "full_adapter_xl")
    return T2IAdapter(3, widths, 2, factor, "full_adapter")


def new_ip_adapter(unet: Any, embedding: int) -> dict[str, Tensor]:
    """Weights of an IP-Adapter to start from, under the keys of the public ones: keys and values as those of the text, the image
    projection random. embedding: width of CLIP's image embedding.
    """
    width = unet.config.cross_attention_dim
    proj, norm = nn.Linear(embedding, IP_TOKENS * width), nn.LayerNorm(width)
    weights = {f"image_proj.proj.{k}": v for k, v in proj.state_dict().items()}
    weights |= {f"image_proj.norm.{k}": v for k, v in norm.state_dict().items()}
    for place, attention in enumerate(_cross_attentions(unet)):
        for part in ("k", "v"):
            weights[f"ip_adapter.{2 * place + 1}.to_{part}_ip.weight"] = getattr(attention, f"to_{part}").weight
    return {key: value.detach().clone() for key, value in weights.items()}


def attach_ip_adapter(unet: Any, weights: Mapping[str, Tensor], scale: float = 1.0) -> nn.ModuleList:
    """Puts an IP-Adapter into a U-Net by diffusers' own loader; returns its modules, those that a training of it trains.

    UserError for weights of another base.
    """
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in weights.items():
        part, _, name = key.partition(".")
        if part not in parts:
            raise WeightsError(f"{key} is no key of an IP-Adapter, whose keys begin with image_proj or ip_adapter.")
        parts[part][name] = value.float()
    try:
        unet._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(f"The IP-Adapter was made for another base ({str(error).splitlines()[0]}).") from None
    modules = nn.ModuleList([unet.encoder_hid_proj, *_ip_processors(unet)])
    for processor in _ip_processors(unet):
        processor.scale = [scale]
    return modules


def ip_adapter_weights(unet: Any) -> dict[str, Tensor]:
    """The weights of the IP-Adapter in a U-Net, under the keys of the public ones."""
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    weights = {f"image_proj.{k.replace('image_embeds', 'proj')}": v for k, v in projection.state_dict().items()}
    for place, processor in enumerate(_ip_processors(unet)):
        weights[f"ip_adapter.{2 * place + 1}.to_k_ip.weight"] = processor.to_k_ip[0].weight
        weights[f"ip_adapter.{2 * place + 1}.to_v_ip.weight"] = processor.to_v_ip[0].weight
    return {key: value.detach() for key, value in weights.items()}


def _ip_processors(unet: Any) -> list[Any]:
    return [processor for processor in unet.attn_processors.values() if hasattr(processor, "to_k_ip")]


def _cross_attentions(unet: Any) -> list[Any]:
    """In the order of `unet.attn_processors`, which numbers an IP-Adapter's weights."""
    return [unet.get_submodule(name.removesuffix(".processor")) for name in unet.attn_processors if ".attn2." in name]


def load_folder(kind: str, source: str | Path) -> Any:
    """A network of diffusers' class `kind` from a folder in its format, or a hub name; float32, frozen, in eval mode.

    WeightsError: no such folder, another class's configuration, or weights that do not fit it.
    """
    import diffusers

    weights_file = find(source, FOLDER_FILES)
    path = find(source, (CONFIG,))
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        network = getattr(diffusers, kind).from_config(config)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} is no configuration of a {kind} ({error}).") from None
    if config.get("_class_name") != kind:
        raise WeightsError(f"{path} describes a {config.get('_class_name')}, and a {kind} is needed here.")
    weights = read_weights(weights_file)
    check_fit(weights_file, weights, network)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return network.eval().requires_grad_(False)


def save_folder(network: Any, folder: Path, card: Mapping[str, Any]) -> None:
    """`config.json` and weights in half precision as diffusers reads them, and `card.json` with the weights' sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    text = network.to_json_string()
    write_atomically(folder / CONFIG, lambda f: f.write(text.encode()))
    _save(folder / WEIGHTS, network.state_dict(), folder / CARD, card)


def save_ip_adapter(weights: Mapping[str, Tensor], folder: Path, card: Mapping[str, Any]) -> None:
    """`ip-adapter.safetensors` as diffusers' `load_ip_adapter` reads it, in half precision, and `card.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / IP_ADAPTER, weights, folder / CARD, card)


IP_ADAPTER = "ip-adapter.safetensors"


def _save(path: Path, weights: Mapping[str, Tensor], card_path: Path, card: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    data = save({k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in weights.items()}, {"format": "pt"})
    write_atomically(path, lambda f: f.write(data))
    write_json(card_path, {**card, "sha256": hashlib.sha256(data).hexdigest()})


def load_ip_adapter(source: str | Path) -> dict[str, Tensor]:
    """Weights of an IP-Adapter from its folder, a file (also a public .bin), or a hub name with its file."""
    weights = read_weights(find(source, (IP_ADAPTER,)))
    return {key: value.float() for key, value in weights.items()}
