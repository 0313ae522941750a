"""Full-size parts from public weights: Stable Diffusion's U-Net and VAE, and OpenCLIP, from a path or by their name on the hub.

A source is a folder in diffusers' layout, a checkpoint file, or a name on the model hub, see `src.weights`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from src.weights import STEM, SUFFIXES, WeightsError, check_fit, find, read_weights

SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."  # in checkpoints in LDM's layout (Rombach et al. 2022)

# Full precision before half, safetensors before torch. An index lists the shards of a network in several files.
_DIFFUSERS_FILES = tuple(
    f"{STEM}.{name}"
    for name in (
        "safetensors", "safetensors.index.json", "bin", "bin.index.json",
        "fp16.safetensors", "safetensors.index.fp16.json", "fp16.bin",
    )
)  # fmt: skip
_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_shards(path: Path) -> dict[str, Tensor]:
    """`read_weights`, of all shards where `path` is their index."""
    if path.suffix != ".json":
        return read_weights(path)
    try:
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(f"{path} is no index of shards.") from None
    return {k: v for shard in shards for k, v in read_weights(path.with_name(str(shard))).items()}


def unet_weights(source: str | Path, unet: Any) -> dict[str, Tensor]:
    """Weights, in the file's precision, for a U-Net of `src.model.unet.build_unet` from a Stable Diffusion 1.x or 2.x.

    source: a diffusers pipeline or its `unet` folder (whole, in shards, or fp16), a file in LDM's layout, or a hub name. Only
    the shapes of `unet` are looked at, so it may be on the meta device. WeightsError names the first keys that differ.
    """
    path = unet_file(source)
    weights = read_shards(path)
    if any(k.startswith(UNET_PREFIX) for k in weights):
        weights = from_ldm_unet(path, weights, unet.config["layers_per_block"])
    weights = to_convolutions(weights)
    check_fit(path, weights, unet)
    return weights


def unet_file(source: str | Path) -> Path:
    """The weights file (or index of shards) of a source of `unet_weights`."""
    return find(source, _DIFFUSERS_FILES, ("unet", ""))


def from_ldm_unet(path: Path, weights: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The keys `model.diffusion_model.*` of a file in LDM's layout, renamed to diffusers' by its own converter.

    The converter leaves out what it does not know: WeightsError names such keys, for they are of another network.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    old = [k.removeprefix(UNET_PREFIX) for k in weights if k.startswith(UNET_PREFIX)]
    # It only moves values from key to key, so with names as values it gives the map from diffusers' names to LDM's.
    names = convert_ldm_unet_checkpoint({UNET_PREFIX + k: k for k in old}, {"layers_per_block": layers})
    names = {new: k for new, k in names.items() if k is not None}
    if foreign := sorted(set(old) - set(names.values())):
        raise WeightsError(
            f"{path} holds another U-Net than Stable Diffusion's, {len(foreign)} keys are foreign: " + ", ".join(foreign[:3])
        )
    return {new: weights[UNET_PREFIX + k] for new, k in names.items()}


def to_convolutions(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Linear projections around a U-Net's transformers (Stable Diffusion 2) as the 1x1 convolutions that they equal."""
    return {k: v[:, :, None, None] if _is_projection(k) and v.ndim == 2 else v for k, v in weights.items()}


def to_linear(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back, for a U-Net in the layout of diffusers' Stable Diffusion 2."""
    return {k: v[:, :, 0, 0] if _is_projection(k) and v.ndim == 4 else v for k, v in weights.items()}


def _is_projection(key: str) -> bool:
    return key.endswith((".proj_in.weight", ".proj_out.weight")) and ".attentions." in key


class LatentVAE(nn.Module):
    """Stable Diffusion's autoencoder, diffusers' `AutoencoderKL`, with the interface of `src.backbone.vae.PatchVAE`.

    Images [B, 3, H, W] in [-1, 1] to latents [B, channels, H / 8, W / 8].
    """

    def __init__(self, **network: Any) -> None:
        from diffusers import AutoencoderKL

        super().__init__()
        levels = len(network["block_out_channels"])
        self.model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, **network
        )
        self.scaling_factor: float = network["scaling_factor"]

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the scaled latent, each [B, channels, h, w]."""
        latent = self.model.encode(images).latent_dist
        return latent.mean * self.scaling_factor, latent.std * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W], not clamped."""
        return self.model.decode(latents / self.scaling_factor).sample


def vae(source: str | Path, network: Mapping[str, Any] = SD_VAE) -> LatentVAE:
    """A Stable Diffusion VAE in float32, frozen, in eval mode.

    source: a diffusers pipeline or its `vae` folder, a file in LDM's layout (a whole checkpoint, or an autoencoder alone such as
    kl-f8-anime), or a hub name. WeightsError names the first keys that differ.
    """
    path = vae_file(source)
    module = LatentVAE(**network)
    weights = _vae_weights(path, read_shards(path), module.model.config)
    check_fit(path, weights, module.model)
    module.model.load_state_dict(weights)
    return module.eval().requires_grad_(False)


def vae_file(source: str | Path) -> Path:
    """The weights file (or index of shards) of a source of `vae`."""
    return find(source, _DIFFUSERS_FILES, ("vae", ""))


def _vae_weights(path: Path, weights: dict[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The autoencoder's weights under diffusers' present names; what else the file holds (losses, a U-Net) is left out."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    if any(k.startswith(VAE_PREFIX) for k in weights):
        weights = {k.removeprefix(VAE_PREFIX): v for k, v in weights.items() if k.startswith(VAE_PREFIX)}
    weights = {k: v for k, v in weights.items() if k.startswith(_VAE_PARTS)}
    if "encoder.mid.block_1.norm1.weight" in weights:
        converted = convert_ldm_vae_checkpoint(weights, config)
        if len(converted) != len(weights):
            raise WeightsError(f"{path} holds another autoencoder than Stable Diffusion's, some of its keys have no counterpart.")
        return converted
    for old, new in _OLD_ATTENTION.items():  # names of diffusers before 0.15, still those of Stable Diffusion 1.5 on the hub
        weights = {k.replace(old, new): v for k, v in weights.items()}
    return {k: v[:, :, 0, 0] if ".attentions." in k and v.ndim == 4 else v for k, v in weights.items()}


def clip(model: str, pretrained: str | Path) -> nn.Module:
    """open_clip's model in float32, frozen, in eval mode, for `src.backbone.clip.image_tokens` and `text_features`.

    model: open_clip's name of an architecture (`ViT-H-14`). pretrained: a tag of open_clip, a path, or a hub name. OpenAI's
    weights as a path need the architecture whose name ends in `-quickgelu`; of a tag this is known.
    WeightsError: unknown model or tag, weights that differ, or a model without a class token or projections.
    """
    import open_clip

    config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        raise WeightsError(f"open_clip has no model {model!r}: give one of `open_clip.list_models()`.")
    towers = config["vision_cfg"].keys() | config["text_cfg"].keys()
    if config.pop("custom_text", False) or towers & {"timm_model_name", "hf_model_name"}:
        raise WeightsError(f"{model} has towers of another library: give one of CLIP's own, such as ViT-H-14.")
    path, quick_gelu = _clip_file(model, pretrained)
    config["quick_gelu"] = config.get("quick_gelu", False) or quick_gelu
    network = open_clip.CLIP(**config)
    visual: Any = network.visual
    if not (
        getattr(visual, "pool_type", None) == "tok"
        and visual.attn_pool is None
        and not visual.final_ln_after_pool
        and isinstance(visual.proj, nn.Parameter)
        and network.text_pool_type == "argmax"
        and isinstance(network.text_projection, nn.Parameter)
    ):
        raise WeightsError(f"{model} has no projected class token and text: give one of CLIP's own, such as ViT-H-14.")
    weights = {k.removeprefix("module."): v for k, v in read_weights(path).items()}  # the prefix of a checkpoint under DDP
    check_fit(path, weights, network)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _clip_file(model: str, pretrained: str | Path) -> tuple[Path, bool]:
    """The file of a path, tag or hub name, and whether the tag says that its network has OpenAI's activation, QuickGELU."""
    import open_clip

    path, name = Path(pretrained).expanduser(), str(pretrained)
    if not path.exists() and (tag := open_clip.get_pretrained_cfg(model, name)):
        repository, _, file = tag["hf_hub"].rpartition("/")
        return find(f"{repository}:{file}" if file else repository, _CLIP_FILES), tag.get("quick_gelu", False)
    if not path.exists() and "/" not in name and path.suffix not in SUFFIXES:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise WeightsError(f"{name} is no path, and no tag of {model} in open_clip: give one of its tags ({tags}) or a path.")
    return find(pretrained, _CLIP_FILES), False


def clip_file(model: str, pretrained: str | Path) -> Path:
    """The weights file of a source of `clip`."""
    return _clip_file(model, pretrained)[0]


def tokenizer(model: str) -> Callable[[list[str]], Tensor]:
    """open_clip's tokenizer of a model of `clip`: texts to ids [B, context_length]. It knows every word."""
    import open_clip

    return open_clip.get_tokenizer(model)
