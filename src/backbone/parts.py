"""The frozen parts of a backbone and the files that they come from: safetensors beside a JSON card, never a pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.files import file_sha256, write_atomically, write_json
from src.weights import WeightsError, check_fit


def save_weights(stem: Path, weights: dict[str, Tensor], card: dict[str, Any], dtype: torch.dtype = torch.float16) -> None:
    """`<stem>.safetensors` with floating tensors as `dtype`, and `<stem>.json`, the card with the sha256 of the weights.

    Each file appears whole or not at all. DVC stages depend on the card: it changes with the weights, and is no stage's output.
    """
    import hashlib

    from safetensors.torch import save

    stem.parent.mkdir(parents=True, exist_ok=True)
    data = save({k: (v.to(dtype) if v.is_floating_point() else v).cpu().contiguous() for k, v in weights.items()})
    write_atomically(_weights(stem), lambda f: f.write(data))
    write_json(_card(stem), {**card, "sha256": hashlib.sha256(data).hexdigest()})


def load_card(stem: Path) -> dict[str, Any]:
    """The JSON beside a weights file. WeightsError where it is missing or no JSON object."""
    path = _card(stem)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"There is no {path}. Give the path of a trained model without its suffix.") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}).") from None
    if not isinstance(card, dict):
        raise WeightsError(f"{path} is not the card of a model.")
    return card


def load_weights(stem: Path, module: nn.Module) -> nn.Module:
    """Fills `module` from `<stem>.safetensors` as float32, in eval mode. WeightsError names the first keys that do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _weights(stem)
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise WeightsError(f"There is no {path}.") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is not a safetensors file ({error}).") from None
    check_fit(path, weights, module)
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return module.eval()


def _weights(stem: Path) -> Path:
    return stem.with_name(stem.name + ".safetensors")


def _card(stem: Path) -> Path:
    return stem.with_name(stem.name + ".json")


@dataclass(frozen=True)
class Backbone:
    """The frozen VAE and CLIP. All methods take and give tensors on the parts' device, floating ones as float32 whatever the
    precision that the parts compute in.

    fingerprint: hash of both weights files; a colorizer works with the backbone that it was trained on and no other.
    """

    vae: Any
    clip: Any
    vocabulary: Any
    fingerprint: str
    size: int
    latent_size: int
    latent_channels: int
    context_width: int

    @property
    def token_count(self) -> int:
        """Local tokens of an image."""
        rows, columns = self.clip.visual.grid_size
        return rows * columns

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of images [B, 3, H, W] in [-1, 1]."""
        mean, std = self.vae.encode(images.to(self._dtype))
        return mean.float(), std.float()

    def decode(self, latents: Tensor) -> Tensor:
        """uint8 images [B, H, W, 3]."""
        return to_uint8(self.vae.decode(latents.to(self._dtype)).float())

    def tokens(self, images: Tensor) -> Tensor:
        """CLIP image tokens [B, 1 + n, D] of images in [-1, 1]; row 0 is CLS."""
        from src.backbone.clip import image_tokens

        return image_tokens(self.clip, images).float()

    def text(self, texts: list[str]) -> Tensor:
        """Unit text features [B, D]."""
        from src.backbone.clip import text_features

        return text_features(self.clip, self.vocabulary(texts)).float()

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.vae.parameters()).dtype

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Backbone":
        """Moves the parts; `dtype` is the precision that they compute in from then on, None = as before."""
        self.vae.to(device, dtype)
        self.clip.to(device, dtype)
        return self


def native_precision(device: torch.device) -> torch.dtype:
    """What a device computes in fastest: bfloat16 on a GPU that has it, float16 on another, float32 on a CPU."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def load_backbone(options: Mapping[str, Any]) -> Backbone:
    """The frozen parts of a configuration of `conf/backbone`: public ones where it has `parts`, else those in its `directory`."""
    if "parts" in options:
        return _public(options)
    from src.backbone.clip import Vocabulary, build_clip
    from src.backbone.vae import PatchVAE

    directory = Path(options["directory"])
    vae_card, clip_card = load_card(directory / "vae"), load_card(directory / "clip")
    vae = load_weights(directory / "vae", PatchVAE(**vae_card["network"])).requires_grad_(False)
    network = clip_card["network"]
    clip = load_weights(directory / "clip", build_clip(**network)).requires_grad_(False)
    size = network["vision"]["image_size"]
    return Backbone(
        vae.to(memory_format=torch.channels_last),
        clip,
        Vocabulary(clip_card["kept"], network["context_length"]),
        fingerprint(options),
        size,
        size // vae_card["network"]["patch"],
        vae_card["network"]["channels"],
        network["embed_dim"],
    )


def _public(options: Mapping[str, Any]) -> Backbone:
    from src.backbone.pretrained import SD_VAE, clip, tokenizer, vae

    parts, unet = options["parts"], options["unet"]
    return Backbone(
        vae(parts["vae"], parts.get("vae_network", SD_VAE)).to(memory_format=torch.channels_last),
        clip(parts["clip"]["model"], parts["clip"]["pretrained"]),
        tokenizer(parts["clip"]["model"]),
        fingerprint(options),
        options["size"],
        unet["latent_size"],
        unet["latent_channels"],
        unet["context_width"],
    )


def fingerprint(options: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that identify the VAE and CLIP weights of a configuration of `conf/backbone`."""
    import hashlib

    if "parts" in options:
        from src.backbone.pretrained import clip_file, vae_file

        paths = [vae_file(options["parts"]["vae"]), clip_file(**options["parts"]["clip"])]
    else:
        directory = Path(options["directory"])
        for part in ("vae", "clip"):
            load_card(directory / part)
        paths = [_weights(directory / part) for part in ("vae", "clip")]
    return hashlib.sha256("".join(file_sha256(path) for path in paths).encode()).hexdigest()[:12]


def to_input(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float [B, 3, H, W] in [-1, 1] to uint8 [B, H, W, 3]."""
    return (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


def sketch_to_input(sketch: Tensor) -> Tensor:
    """A sketch, uint8 [B, H, W] with black lines on white, as the network wants it: [B, 3, H, W], -1 = no line, 1 = line."""
    return (1 - sketch.float() / 127.5)[:, None].expand(-1, 3, -1, -1)
