"""Random pipelines of the public ones' classes, a few thousand numbers each, written in diffusers' layout by diffusers itself."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)
from transformers.models.clip.tokenization_clip import VOCAB_FILES_NAMES

from src.baselines.base import Base
from src.baselines.lllite import new_lllite
from src.baselines.public import load_public_base

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = "!abcdefghijklmnopqrstuvwxyz0123456789_,.-'"
WIDTH, EMBEDDING, LENGTH = 16, 24, 77  # of texts, of image embeddings, and of a prompt in tokens: nearly its letters


def randomized(network: Any) -> Any:
    """Every number of it random, also those that start as zero or one, so that no part of it is without effect.

    What a U-Net ends in is small: samples stay of the size of noise, where rounding is far below 1e-4.
    """
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn_like(p) * (1.5 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.2))
        for module in network.modules():
            if isinstance(module, nn.GroupNorm | nn.LayerNorm):
                module.weight.add_(1)
        if isinstance(network, UNet2DConditionModel):
            network.conv_out.weight.mul_(0.3)
    return network.eval().requires_grad_(False)


def vocabulary() -> dict[str, int]:
    tokens = [*WORDS, *(letter + "</w>" for letter in WORDS), START, END]
    return {token: i for i, token in enumerate(tokens)}


def tokenizer(pad: str = END) -> Any:
    return CLIPTokenizer(vocab=vocabulary(), merges=[], pad_token=pad, model_max_length=LENGTH)


def as_on_the_hub(folder: Path, pad: str = END) -> None:
    """A tokenizer's folder as those that people have: vocabulary and merges, not the one file of later versions."""
    (folder / VOCAB_FILES_NAMES["tokenizer_file"]).unlink()
    (folder / VOCAB_FILES_NAMES["vocab_file"]).write_text(json.dumps(vocabulary()))
    (folder / VOCAB_FILES_NAMES["merges_file"]).write_text("#version: 0.2\n")
    assert json.loads((folder / "tokenizer_config.json").read_text())["pad_token"] == pad


def text_encoder(kind: Any) -> Any:
    ids = vocabulary()
    return randomized(kind(CLIPTextConfig(
        vocab_size=len(ids), hidden_size=WIDTH, intermediate_size=32, projection_dim=WIDTH, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=LENGTH, bos_token_id=ids[START], eos_token_id=ids[END], pad_token_id=0,
    )))  # fmt: skip


def autoencoder(**options: Any) -> Any:
    widths = (8, 8, 8, 8)
    return randomized(AutoencoderKL(
        block_out_channels=widths, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1, norm_num_groups=4, latent_channels=4, **options,
    ))  # fmt: skip


def quiet(unet: Any) -> Any:
    """A random U-Net with small predictions, so that rounding stays small in latents, which are 15 times as large at first."""
    unet = randomized(unet)
    for p in unet.conv_out.parameters():
        p.mul_(0.3)
    return unet


def sd(folder: Path) -> Path:
    """A pipeline of Stable Diffusion 1's classes, for 64 pixels."""
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 16, 32, 32), layers_per_block=1, norm_num_groups=8, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",), cross_attention_dim=WIDTH,
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=autoencoder(), unet=quiet(unet), text_encoder=text_encoder(CLIPTextModel), tokenizer=tokenizer(),
        scheduler=DPMSolverMultistepScheduler(steps_offset=1), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    as_on_the_hub(folder / "tokenizer")
    return folder


def sdxl_unet(**options: Any) -> Any:
    return UNet2DConditionModel(**{
        "sample_size": 8, "block_out_channels": (16, 16, 32), "layers_per_block": 1, "norm_num_groups": 8,
        "attention_head_dim": (2, 2, 4), "transformer_layers_per_block": (1, 1, 2), "cross_attention_dim": 2 * WIDTH,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": WIDTH + 6 * 8, **options,
    })  # fmt: skip


def sdxl(folder: Path) -> Path:
    """A pipeline of SDXL's classes, for 64 pixels."""
    StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025, force_upcast=True), unet=quiet(sdxl_unet()),
        text_encoder=text_encoder(CLIPTextModel), tokenizer=tokenizer(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection), tokenizer_2=tokenizer("9"),
        scheduler=DPMSolverMultistepScheduler(steps_offset=1), add_watermarker=False,
    ).save_pretrained(folder)  # fmt: skip
    as_on_the_hub(folder / "tokenizer")
    as_on_the_hub(folder / "tokenizer_2", "9")
    return folder


def image_encoder(folder: Path) -> Path:
    """As in h94/IP-Adapter: configuration and weights, and nothing that says how to prepare a picture."""
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=EMBEDDING,
    )  # fmt: skip
    randomized(CLIPVisionModelWithProjection(config)).save_pretrained(folder / "models" / "image_encoder")
    return folder


def control_lllite(path: Path, unet: Any) -> Path:
    path.parent.mkdir(parents=True)
    save_file(randomized(new_lllite(unet, 4, 8)).state_dict(), path)
    return path


def load(mirror: Path, name: str, **options: Any) -> Base:
    """The base in the mirror's folder someone/<name>."""
    given = {"source": f"someone/{name}", "image_encoder": "someone/adapter"} | options
    return load_public_base({"mirror": mirror, "bases": {"base": given}}, "base")


# SDXL's U-Net, by its config.json.
SDXL_UNET: dict[str, Any] = {
    "sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "norm_num_groups": 32,
    "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048,
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
