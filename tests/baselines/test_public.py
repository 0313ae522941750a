"""Public bases on small random pipelines of the same classes: our samples are those of diffusers' own pipelines."""

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, T2IAdapter
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from src.baselines import adapters
from src.baselines.base import Base
from src.baselines.sampler import Control, sample
from src.sampling.sampler import generators, noise
from src.sampling.solvers import solver_of
from src.weights import WeightsError
from tests.baselines import small
from tests.baselines.small import load

SIDE, STEPS, GS, SEEDS = 64, 3, 3.0, [3, 4]
PROMPTS, NEGATIVES = ["a red hat, hires", "a blue sea"], ["bad", "bad, a girl"]


def pictures() -> tuple[Tensor, Tensor]:
    """Conditions [2, 3, 64, 64] in [0, 1], and references uint8 [2, 48, 56, 3]."""
    source = torch.Generator().manual_seed(1)
    references = torch.randint(0, 256, (2, 6, 7, 3), generator=source, dtype=torch.uint8)
    return torch.rand(2, 3, SIDE, SIDE, generator=source), references.repeat_interleave(8, 1).repeat_interleave(8, 2)


def ours(base: Base, **adapted: Any) -> Tensor:
    positive, negative = base.texts(PROMPTS), base.texts(NEGATIVES)
    return sample(base, positive, negative, SEEDS, size=(SIDE, SIDE), gs=GS, steps=STEPS, **adapted)


def theirs(
    pipe: Any, conditions: Tensor | None = None, references: Tensor | None = None, solver: str = "dpmpp_2m", **more: Any
) -> Tensor:
    """One drawing after the other, by a pipeline of diffusers."""
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = solver_of(solver, "karras", STEPS)
    rows = []
    for i, seed in enumerate(SEEDS):
        shown = more | ({"image": conditions[i : i + 1]} if conditions is not None else {})
        if references is not None:
            shown["ip_adapter_image"] = Image.fromarray(references[i].numpy())
        rows.append(pipe(
            PROMPTS[i], negative_prompt=NEGATIVES[i], height=SIDE, width=SIDE, guidance_scale=GS, num_inference_steps=STEPS,
            latents=noise(generators([seed]), (4, 8, 8)), output_type="latent", **shown,
        ).images)  # fmt: skip
    return torch.cat(rows)


def pipeline(kind: str, mirror: Path, name: str, **parts: Any) -> Any:
    encoder = CLIPVisionModelWithProjection.from_pretrained(mirror / "someone/adapter/models/image_encoder")
    return getattr(diffusers, kind).from_pretrained(mirror / "someone" / name, image_encoder=encoder, **parts)


def ip_adapter(mirror: Path, name: str, base: Base, pipe: Any, scale: float, references: Tensor) -> Tensor:
    """Puts the same adapter into both; returns the embeddings of ours."""
    folder = mirror / "someone" / f"{name}-ip"
    adapters.attach_ip_adapter(base.unet, adapters.load_ip_adapter(folder), scale)
    pipe.load_ip_adapter(folder, subfolder="", weight_name=adapters.IP_ADAPTER, image_encoder_folder=None)
    pipe.set_ip_adapter_scale(scale)
    return base.images(references.permute(0, 3, 1, 2) / 127.5 - 1)


@pytest.mark.parametrize(
    ("name", "kind", "solver"),
    [("sd", "StableDiffusionPipeline", "dpmpp_2m"), ("sdxl", "StableDiffusionXLPipeline", "euler")],
)
def test_from_text_alone(mirror: Path, name: str, kind: str, solver: str) -> None:
    result = ours(load(mirror, name), solver=solver)
    torch.testing.assert_close(result, theirs(pipeline(kind, mirror, name), solver=solver), atol=1e-4, rtol=0)
    assert not torch.allclose(result[0], result[1], atol=0.1)


@pytest.mark.parametrize(
    ("name", "kind"), [("sd", "StableDiffusionControlNetPipeline"), ("sdxl", "StableDiffusionXLControlNetPipeline")]
)
@pytest.mark.parametrize("image_scale", [None, 0.6])
def test_controlnet_and_ip_adapter(mirror: Path, name: str, kind: str, image_scale: float | None) -> None:
    conditions, references = pictures()
    base, folder = load(mirror, name), mirror / "someone" / f"{name}-control"
    pipe = pipeline(kind, mirror, name, controlnet=ControlNetModel.from_pretrained(folder))
    shown = {"image": ip_adapter(mirror, name, base, pipe, image_scale, references)} if image_scale else {}
    result = ours(base, controls=[Control(adapters.load_folder("ControlNetModel", folder), conditions, 0.8)], **shown)
    expected = theirs(pipe, conditions, references if image_scale else None, controlnet_conditioning_scale=0.8)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(result, ours(load(mirror, name)), atol=0.1)


@pytest.mark.parametrize(("name", "kind"), [("sd", "StableDiffusionAdapterPipeline"), ("sdxl", "StableDiffusionXLAdapterPipeline")])
def test_t2i_adapter(mirror: Path, name: str, kind: str) -> None:
    conditions, references = pictures()
    base, folder = load(mirror, name), mirror / "someone" / f"{name}-t2i"
    if name == "sd":  # this pipeline takes no image encoder
        pipe = diffusers.StableDiffusionAdapterPipeline.from_pretrained(
            mirror / "someone" / name, adapter=T2IAdapter.from_pretrained(folder)
        )
        shown = {}
    else:
        pipe = pipeline(kind, mirror, name, adapter=T2IAdapter.from_pretrained(folder))
        shown = {"image": ip_adapter(mirror, name, base, pipe, 0.6, references)}
    features = adapters.load_folder("T2IAdapter", folder)(conditions)
    result = ours(base, features=[0.8 * level for level in features], **shown)
    expected = theirs(pipe, conditions, references if shown else None, adapter_conditioning_scale=0.8)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)
    assert not torch.allclose(result, ours(base, **shown), atol=0.1)


@pytest.mark.parametrize("kind", ["ControlNetModel", "T2IAdapter"])
def test_what_diffusers_saves_loads_here(mirror: Path, tmp_path: Path, kind: str) -> None:
    unet = load(mirror, "sdxl").unet
    new = adapters.new_controlnet if kind == "ControlNetModel" else adapters.new_t2i_adapter
    network = small.randomized(new(unet, 8))
    network.save_pretrained(tmp_path)
    loaded = adapters.load_folder(kind, tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in network.state_dict().items())


def test_ip_adapter_weights_come_back_from_a_unet(mirror: Path) -> None:
    weights = adapters.load_ip_adapter(mirror / "someone/sdxl-ip")
    unet = load(mirror, "sdxl").unet
    adapters.attach_ip_adapter(unet, weights)
    back = adapters.ip_adapter_weights(unet)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], value) for key, value in weights.items())
    with pytest.raises(WeightsError, match="another base"):
        adapters.attach_ip_adapter(load(mirror, "sd").unet, weights)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_latents_are_scaled_as_the_vae_says(mirror: Path, name: str) -> None:
    base = load(mirror, name)
    network = AutoencoderKL.from_pretrained(mirror / "someone" / name / "vae")
    images = pictures()[0] * 2 - 1
    latents = network.encode(images).latent_dist.mean * network.config["scaling_factor"]
    torch.testing.assert_close(base.encode(images), latents)
    decoded = network.decode(latents / network.config["scaling_factor"]).sample
    expected = np.round((decoded.clamp(-1, 1) * 127.5 + 127.5).permute(0, 2, 3, 1).detach().numpy())
    assert np.abs(base.decode(latents).numpy() - expected).max() <= 1
    assert (base.size, base.factor, base.embedding) == (SIDE, 8, small.EMBEDDING)


def test_a_word_of_textual_inversion(mirror: Path, tmp_path: Path) -> None:
    """Its embeddings take its place in the prompt, one after the other, in the order of the file."""
    vectors = torch.randn(3, small.WIDTH)
    save_file({"emb_params": vectors}, tmp_path / "Bad.safetensors")
    base = load(mirror, "sd", embeddings={"Bad_X": str(tmp_path / "Bad.safetensors")})
    pipe = pipeline("StableDiffusionPipeline", mirror, "sd")
    for i in range(3):
        pipe.load_textual_inversion(vectors[i], token="qqzz"[: i + 2])
    expected = pipe.encode_prompt("a sea, qq qqz qqzz, hat", torch.device("cpu"), 1, False)[0]
    torch.testing.assert_close(base.texts(["a sea, Bad_X, hat"]).context, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(base.texts(["A sea, bad_x, hat"]).context, expected, atol=1e-5, rtol=0)
    assert base.fingerprint != load(mirror, "sd").fingerprint


def test_a_word_of_textual_inversion_in_both_encoders(mirror: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.safetensors"
    one, two = torch.randn(2, small.WIDTH), torch.randn(2, small.WIDTH)
    save_file({"clip_l": one, "clip_g": two}, file)
    base = load(mirror, "sdxl", embeddings={"negativeXL_D": str(file)})
    pipe = pipeline("StableDiffusionXLPipeline", mirror, "sdxl")
    pipe.load_textual_inversion(one, token="ours", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    pipe.load_textual_inversion(two, token="ours", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
    context, _, pooled, _ = pipe.encode_prompt("ours", device=torch.device("cpu"), do_classifier_free_guidance=False)
    text = base.texts(["negativeXL_D"])
    torch.testing.assert_close(text.context, context)
    torch.testing.assert_close(text.added["text_embeds"], pooled)
    assert not torch.allclose(text.context, load(mirror, "sdxl").texts(["negativeXL_D"]).context, atol=0.1)
    with pytest.raises(WeightsError, match="belongs to another base"):
        save_file({"emb_params": one}, file)
        load(mirror, "sdxl", embeddings={"word": str(file)})


def test_old_files_and_half_precision(mirror: Path, tmp_path: Path) -> None:
    """As Anything v3 is on the hub: torch files, the VAE's attention under its former names, position ids among the weights."""
    from safetensors.torch import load_file

    folder = shutil.copytree(mirror / "someone/sd", tmp_path / "old")
    for part, old, new in (
        ("unet", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("text_encoder", "model.safetensors", "pytorch_model.bin"),
    ):
        weights = load_file(folder / part / old)
        for now, before in ((".to_q.", ".query."), (".to_k.", ".key."), (".to_v.", ".value."), (".to_out.0.", ".proj_attn.")):
            if part == "vae":
                weights = {key.replace(now, before): value for key, value in weights.items()}
        if part == "text_encoder":
            weights = {f"text_model.{key.removeprefix('text_model.')}": value.half() for key, value in weights.items()}
            weights["text_model.embeddings.position_ids"] = torch.arange(small.LENGTH)[None]
        torch.save(weights, folder / part / new)
        (folder / part / old).unlink()
    config = json.loads((folder / "vae/config.json").read_text())
    del config["scaling_factor"]
    (folder / "vae/config.json").write_text(json.dumps(config))
    old, new = load(tmp_path, "sd", source=str(folder), image_encoder=None), load(mirror, "sd")
    images = pictures()[0]
    torch.testing.assert_close(old.encode(images), new.encode(images))
    assert all(torch.equal(value, new.unet.state_dict()[key]) for key, value in old.unet.state_dict().items())
    torch.testing.assert_close(old.texts(PROMPTS).context, new.texts(PROMPTS).context, atol=0.02, rtol=0)
