"""Public text-to-image models as bases: Stable Diffusion 1.x and XL in diffusers' layout, the former also as one checkpoint file.

Networks are built from the `config.json` beside them and filled with tensors that `src.weights` read: no code in a file runs.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.backbone.parts import to_uint8
from src.backbone.pretrained import SD_VAE, UNET_PREFIX, LatentVAE, from_ldm_unet, read_shards, unet_file, vae, vae_file
from src.baselines.base import Base, Text
from src.files import UserError, config_hash, file_sha256
from src.weights import SUFFIXES, WeightsError, check_fit, find, mirrored

_TRANSFORMERS_FILES = ("model.safetensors", "pytorch_model.bin", "model.fp16.safetensors")
_IMAGE_ENCODERS = ("models/image_encoder", "image_encoder", "")
_LDM_TEXT = "cond_stage_model.transformer."  # Stable Diffusion 1's text encoder in checkpoints in LDM's layout
_WORDS_OF = ({"clip_l", "emb_params"}, {"clip_g"})  # keys of a textual inversion's file, by text encoder


class PublicBase(Base):
    """Stable Diffusion 1.x, or XL, by whether it has a second text encoder. All but the U-Net computes in float32.

    prompts: diffusers' pipeline with the text encoders alone; vision: CLIP's vision model with its preprocessing, or None.
    """

    def __init__(self, unet: Any, vae: LatentVAE, prompts: Any, vision: Any, prediction: str, fingerprint: str) -> None:
        self.unet, self.vae, self.prompts, self.vision = unet, vae, prompts, vision
        self.prediction, self.fingerprint = prediction, fingerprint
        self.factor = 2 ** (len(vae.model.config["block_out_channels"]) - 1)
        self.size = unet.config.sample_size * self.factor
        self.embedding = vision[0].config.projection_dim if vision else 0

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Text:
        """SDXL is told that the picture has the size that it was trained at and is not cropped, whatever size is sampled."""
        prompts = [prompt.lower() for prompt in prompts]  # as the tokenizer does: so the words of textual inversions are found
        if not hasattr(self.prompts, "text_encoder_2"):
            return Text(self.prompts.encode_prompt(prompts, self._device, 1, False)[0])
        context, _, pooled, _ = self.prompts.encode_prompt(
            prompts, device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        told = torch.tensor([self.size, self.size, 0, 0, self.size, self.size], dtype=torch.float32, device=self._device)
        return Text(context, {"text_embeds": pooled, "time_ids": told.expand(len(prompts), -1)})

    @torch.no_grad()
    def images(self, references: Tensor) -> Tensor:
        if self.vision is None:
            raise UserError(
                "This base has no CLIP vision model: name the one of IP-Adapter as its `image_encoder` in conf/weights."
            )
        encoder, preprocess = self.vision
        pixels = list(to_uint8(references).permute(0, 3, 1, 2).cpu())
        shown = preprocess(pixels, return_tensors="pt").pixel_values
        return encoder(shown.to(self._device, torch.float32)).image_embeds

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        return self.vae.encode(images.float())[0]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        return to_uint8(self.vae.decode(latents.float()))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "PublicBase":
        torch.nn.Module.to(self.unet, device, dtype)  # diffusers' own warns of nothing
        self.vae.to(device)
        self.prompts.to(device)
        if self.vision:
            self.vision[0].to(device)
        return self

    @property
    def _device(self) -> torch.device:
        return next(self.vae.parameters()).device


def load_public_base(weights: Mapping[str, Any], name: str) -> Base:
    """The base `name` of a configuration of `conf/weights`, on the CPU in float32, frozen, in eval mode.

    source: a folder in diffusers' layout, a hub name, or a checkpoint in LDM's layout with `config`, the source of a model of the
    same size in diffusers' layout that has its configuration and tokenizer. image_encoder, embeddings (word: file): optional.
    UserError: missing or foreign weights, or a missing package.
    """
    import diffusers

    transformers = _transformers()
    options, mirror = weights["bases"][name], weights.get("mirror")
    source = mirrored(options["source"], mirror)
    layout = mirrored(options.get("config") or options["source"], mirror)
    if Path(layout).suffix in SUFFIXES:
        raise WeightsError(
            f"{layout} is one file: name a model of its size in diffusers' layout as the `config` of the base {name}."
        )
    network = _config(layout, "vae")  # of Stable Diffusion 1.5 on the hub it does not say the scaling factor
    autoencoder = vae(source, SD_VAE | {key: value for key, value in network.items() if key in SD_VAE})
    parts: dict[str, Any] = {
        "tokenizer": _tokenizer(transformers, layout, "tokenizer"),
        "text_encoder": _text_encoder(transformers.CLIPTextModel, source, layout, "text_encoder"),
    }
    kind, rest = diffusers.StableDiffusionPipeline, {"safety_checker": None, "feature_extractor": None}
    if _config(layout, "", "model_index.json").get("text_encoder_2"):
        kind, rest = diffusers.StableDiffusionXLPipeline, {}
        parts["tokenizer_2"] = _tokenizer(transformers, layout, "tokenizer_2")
        parts["text_encoder_2"] = _text_encoder(transformers.CLIPTextModelWithProjection, source, layout, "text_encoder_2")
    pipeline = kind(vae=None, unet=None, scheduler=None, **parts, **rest, **({"requires_safety_checker": False} if rest else {}))
    files = [vae_file(source), *(_text_file(source, part) for part in parts if part.startswith("text"))]
    for word, file in (options.get("embeddings") or {}).items():
        files.append(find(mirrored(file, mirror)))
        _teach(pipeline, word, files[-1])
    vision = None
    if options.get("image_encoder"):
        encoder_source = mirrored(options["image_encoder"], mirror)
        vision = _vision(transformers, encoder_source)
        files.append(find(encoder_source, _TRANSFORMERS_FILES, _IMAGE_ENCODERS))
    prediction = {"epsilon": "epsilon", "v_prediction": "v"}.get(
        _config(layout, "scheduler", "scheduler_config.json").get("prediction_type", "epsilon")
    )
    if prediction is None:
        raise WeightsError(f"{layout} predicts neither the noise nor v: give another base.")
    fingerprint = config_hash([file_sha256(path) for path in files])
    return PublicBase(_unet(source, layout), autoencoder, pipeline, vision, prediction, fingerprint)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError("Public text-to-image models need the package transformers: pip install -e '.[baselines]'.") from None
    return transformers


def _config(source: str, folders: str | tuple[str, ...], name: str = "config.json") -> dict[str, Any]:
    path = find(source, (name,), (folders,) if isinstance(folders, str) else folders)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error}): get it again.") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{path} is no configuration: get it again.")
    return config


def _unet(source: str, layout: str) -> Any:
    from diffusers import UNet2DConditionModel

    config = _config(layout, "unet")
    with torch.device("meta"):  # no random start for billions of numbers that a file has
        unet = UNet2DConditionModel.from_config(config)
    path = unet_file(source)
    weights = read_shards(path)
    if any(key.startswith(UNET_PREFIX) for key in weights):
        weights = from_ldm_unet(path, weights, unet.config["layers_per_block"])
    check_fit(path, weights, unet)
    unet.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return unet.eval().requires_grad_(False)


def _tokenizer(transformers: Any, layout: str, folder: str) -> Any:
    """From vocabulary and merges, or a `tokenizer.json`: tables, no code."""
    find(layout, ("tokenizer_config.json",), (folder,))
    table = find(layout, ("vocab.json", "tokenizer.json"), (folder,))
    if table.name == "vocab.json":
        find(layout, ("merges.txt",), (folder,))
    try:
        return transformers.CLIPTokenizer.from_pretrained(table.parent, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{table.parent} is no tokenizer of CLIP ({str(error).splitlines()[0]}): get it again.") from None


def _text_file(source: str, folder: str) -> Path:
    return find(source, _TRANSFORMERS_FILES, (folder,))


def _text_encoder(kind: Any, source: str, layout: str, folder: str) -> Any:
    path = _text_file(source, folder)
    weights = read_shards(path)
    if any(key.startswith(_LDM_TEXT) for key in weights):
        weights = {key.removeprefix(_LDM_TEXT): value for key, value in weights.items() if key.startswith(_LDM_TEXT)}
    return _filled(kind, path, weights, _config(layout, folder))


def _filled(kind: Any, path: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Any:
    """A network of transformers in float32, frozen, in eval mode. It knows the names of its keys in former versions."""
    weights = {key: value.float() for key, value in weights.items() if not key.endswith("position_ids")}  # counted, not learned
    try:
        network, fit = kind.from_pretrained(
            None, config=kind.config_class.from_dict(dict(config)), state_dict=weights, output_loading_info=True,
            dtype=torch.float32,
        )  # fmt: skip
    except (RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} does not fit the config.json beside it ({str(error).splitlines()[0]}): get both again."
        ) from None
    wrong = [str(key) for part in ("missing_keys", "unexpected_keys", "mismatched_keys") for key in sorted(fit[part])]
    if wrong:
        raise WeightsError(f"{path} holds another network, {len(wrong)} keys differ: " + "; ".join(wrong[:3]))
    return network.eval().requires_grad_(False)


def _vision(transformers: Any, source: str) -> tuple[Any, Any]:
    path = find(source, _TRANSFORMERS_FILES, _IMAGE_ENCODERS)
    config = _config(source, _IMAGE_ENCODERS)
    encoder = _filled(transformers.CLIPVisionModelWithProjection, path, read_shards(path), config)
    side = encoder.config.image_size
    return encoder, transformers.CLIPImageProcessor(size=side, crop_size=side)  # as diffusers' own loader of IP-Adapters does


def _teach(pipeline: Any, word: str, path: Path) -> None:
    """A textual inversion (Gal et al. 2022): a word that stands for the file's embeddings, in each text encoder."""
    weights = read_shards(path)
    encoders = [(pipeline.text_encoder, pipeline.tokenizer)]
    if hasattr(pipeline, "text_encoder_2"):
        encoders.append((pipeline.text_encoder_2, pipeline.tokenizer_2))
    for keys, (encoder, tokenizer) in zip(_WORDS_OF, encoders, strict=False):
        found = [weights[key] for key in keys if key in weights] or (list(weights.values()) if len(encoders) == 1 else [])
        width = encoder.get_input_embeddings().weight.shape[1]
        if len(found) != 1 or found[0].shape[-1] != width:
            raise WeightsError(f"{path} has no embeddings of {width} numbers for {word}: it belongs to another base.")
        try:
            pipeline.load_textual_inversion(found[0].float(), token=word.lower(), text_encoder=encoder, tokenizer=tokenizer)
        except ValueError as error:
            raise WeightsError(f"{path} cannot be used as the word {word} ({error}).") from None
