"""Full-size weights: every format is written by its own library from small random networks and read back."""

import fnmatch
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from src.backbone import pretrained
from src.backbone.clip import MEAN, STD, image_tokens, text_features
from src.backbone.pretrained import SD_VAE, UNET_PREFIX, VAE_PREFIX, LatentVAE, unet_weights, vae
from src.config import compose, plain
from src.model.unet import build_unet
from src.weights import WeightsError, read_weights

Shapes = dict[str, tuple[int, ...]]
SMALL = dict(
    latent_size=8, latent_channels=4, widths=[32, 64, 64], layers=2, groups=32, attention=[True, True, False], heads=[2, 4, 4],
    context_width=24, stem=[8, 12, 16, 24],
)  # fmt: skip
SMALL_VAE = SD_VAE | {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}


def full_size(name: str) -> dict[str, Any]:
    return plain(compose([f"backbone={name}"]).backbone.unet)


def meta_unet(network: dict[str, Any]) -> UNet2DConditionModel:
    with torch.device("meta"):
        return build_unet(network)


def layer(shapes: Shapes, name: str, *weight: int, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = weight
    if bias:
        shapes[f"{name}.bias"] = weight[:1]


def ldm_unet(network: dict[str, Any], linear: bool = False) -> Shapes:
    """Names and shapes of a U-Net in LDM's layout: blocks in a row, each a list of residual block, transformer and resampling."""
    widths, count, latent = network["widths"], network["layers"], network["latent_channels"]
    shapes: Shapes = {}
    first, time = widths[0], 4 * widths[0]

    def residual(name: str, given: int, width: int) -> None:
        layer(shapes, f"{name}.in_layers.0", given)
        layer(shapes, f"{name}.in_layers.2", width, given, 3, 3)
        layer(shapes, f"{name}.emb_layers.1", width, time)
        layer(shapes, f"{name}.out_layers.0", width)
        layer(shapes, f"{name}.out_layers.3", width, width, 3, 3)
        if given != width:
            layer(shapes, f"{name}.skip_connection", width, given, 1, 1)

    def transformer(name: str, width: int) -> None:
        layer(shapes, f"{name}.norm", width)
        for projection in ("proj_in", "proj_out"):
            layer(shapes, f"{name}.{projection}", width, width, *(() if linear else (1, 1)))
        block = f"{name}.transformer_blocks.0"
        for attention, context in (("attn1", width), ("attn2", network["context_width"])):
            layer(shapes, f"{block}.{attention}.to_q", width, width, bias=False)
            layer(shapes, f"{block}.{attention}.to_k", width, context, bias=False)
            layer(shapes, f"{block}.{attention}.to_v", width, context, bias=False)
            layer(shapes, f"{block}.{attention}.to_out.0", width, width)
        layer(shapes, f"{block}.ff.net.0.proj", 8 * width, width)
        layer(shapes, f"{block}.ff.net.2", width, 4 * width)
        for i in (1, 2, 3):
            layer(shapes, f"{block}.norm{i}", width)

    layer(shapes, "time_embed.0", time, first)
    layer(shapes, "time_embed.2", time, time)
    layer(shapes, "input_blocks.0.0", first, latent, 3, 3)
    skips, given, place = [first], first, 1
    for level, width in enumerate(widths):
        for _ in range(count):
            residual(f"input_blocks.{place}.0", given, width)
            if network["attention"][level]:
                transformer(f"input_blocks.{place}.1", width)
            skips, given, place = [*skips, width], width, place + 1
        if level < len(widths) - 1:
            layer(shapes, f"input_blocks.{place}.0.op", width, width, 3, 3)
            skips, place = [*skips, width], place + 1
    residual("middle_block.0", given, given)
    transformer("middle_block.1", given)
    residual("middle_block.2", given, given)
    place = 0
    for level, width in reversed(list(enumerate(widths))):
        for i in range(count + 1):
            residual(f"output_blocks.{place}.0", given + skips.pop(), width)
            if network["attention"][level]:
                transformer(f"output_blocks.{place}.1", width)
            if level and i == count:
                layer(shapes, f"output_blocks.{place}.{2 if network['attention'][level] else 1}.conv", width, width, 3, 3)
            given, place = width, place + 1
    layer(shapes, "out.0", first)
    layer(shapes, "out.2", latent, first, 3, 3)
    return shapes


def ldm_vae(network: dict[str, Any]) -> Shapes:
    """Names and shapes of an autoencoder in LDM's layout."""
    widths, count, latent = network["block_out_channels"], network["layers_per_block"], network["latent_channels"]
    shapes: Shapes = {}

    def residual(name: str, given: int, width: int) -> None:
        layer(shapes, f"{name}.norm1", given)
        layer(shapes, f"{name}.conv1", width, given, 3, 3)
        layer(shapes, f"{name}.norm2", width)
        layer(shapes, f"{name}.conv2", width, width, 3, 3)
        if given != width:
            layer(shapes, f"{name}.nin_shortcut", width, given, 1, 1)

    def middle(name: str, width: int) -> None:
        residual(f"{name}.block_1", width, width)
        layer(shapes, f"{name}.attn_1.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            layer(shapes, f"{name}.attn_1.{part}", width, width, 1, 1)
        residual(f"{name}.block_2", width, width)

    layer(shapes, "encoder.conv_in", widths[0], 3, 3, 3)
    given = widths[0]
    for level, width in enumerate(widths):
        for i in range(count):
            residual(f"encoder.down.{level}.block.{i}", given, width)
            given = width
        if level < len(widths) - 1:
            layer(shapes, f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    middle("encoder.mid", given)
    layer(shapes, "encoder.norm_out", given)
    layer(shapes, "encoder.conv_out", 2 * latent, given, 3, 3)
    layer(shapes, "decoder.conv_in", given, latent, 3, 3)
    middle("decoder.mid", given)
    for level, width in reversed(list(enumerate(widths))):
        for i in range(count + 1):
            residual(f"decoder.up.{level}.block.{i}", given, width)
            given = width
        if level:
            layer(shapes, f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    layer(shapes, "decoder.norm_out", given)
    layer(shapes, "decoder.conv_out", 3, given, 3, 3)
    layer(shapes, "quant_conv", 2 * latent, 2 * latent, 1, 1)
    layer(shapes, "post_quant_conv", latent, latent, 1, 1)
    return shapes


def meta(shapes: Shapes, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + k: torch.empty(v, device="meta") for k, v in shapes.items()}


def random(shapes: Shapes, prefix: str = "") -> dict[str, Tensor]:
    """Random weights; those of normalisations are about 1, so that no layer's output vanishes."""
    return {prefix + k: torch.randn(v) * 0.1 + (len(v) == 1 and k.endswith("weight")) for k, v in shapes.items()}


def shapes_of(weights: dict[str, Tensor]) -> Shapes:
    return {k: tuple(v.shape) for k, v in weights.items()}


# The U-Net


@pytest.mark.parametrize(("name", "linear", "parameters"), [("sd21", True, 865_910_724), ("sd15", False, 859_520_964)])
def test_the_whole_ldm_layout_maps_onto_the_full_size_unet(name: str, linear: bool, parameters: int) -> None:
    network = full_size(name)
    unet, layout = meta_unet(network), ldm_unet(network, linear)
    assert sum(p.numel() for p in unet.parameters()) == sum(int(np.prod(s)) for s in layout.values()) == parameters
    given = meta(layout, UNET_PREFIX)
    converted = pretrained.from_ldm_unet(Path("f"), given, 2)
    assert len({id(v) for v in converted.values()}) == len(given) == len(converted)
    wanted = shapes_of(unet.state_dict())
    assert shapes_of(pretrained.to_convolutions(converted)) == wanted
    assert (shapes_of(converted) == wanted) is not linear


def test_linear_projections_are_convolutions_and_back() -> None:
    unet = meta_unet(full_size("sd21"))
    ours = unet.state_dict()
    linear = pretrained.to_linear(ours)
    changed = [k for k in ours if ours[k].shape != linear[k].shape]
    assert len(changed) == 2 * 16 and all(linear[k].shape == ours[k].shape[:2] for k in changed)  # 16 transformers
    assert shapes_of(pretrained.to_convolutions(linear)) == shapes_of(ours)
    with torch.device("meta"):
        theirs = UNet2DConditionModel.from_config({**unet.config, "use_linear_projection": True})
    assert shapes_of(theirs.state_dict()) == shapes_of(linear)


def written(linear: bool = False) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel.from_config({**build_unet(SMALL).config, "use_linear_projection": linear}).eval()


@pytest.mark.parametrize(
    ("options", "file"),
    [
        ({}, "diffusion_pytorch_model.safetensors"),
        ({"safe_serialization": False}, "diffusion_pytorch_model.bin"),
        ({"variant": "fp16"}, "diffusion_pytorch_model.fp16.safetensors"),
        ({"max_shard_size": "1MB"}, "diffusion_pytorch_model.safetensors.index.json"),
        ({"max_shard_size": "1MB", "variant": "fp16"}, "diffusion_pytorch_model.safetensors.index.fp16.json"),
        ({"max_shard_size": "1MB", "safe_serialization": False}, "diffusion_pytorch_model.bin.index.json"),
    ],
)
@torch.no_grad()
def test_a_diffusers_folder_gives_the_same_predictions(tmp_path: Path, options: dict[str, Any], file: str) -> None:
    theirs, ours = written(linear=True), build_unet(SMALL).eval()
    half = "variant" in options
    (theirs.half() if half else theirs).save_pretrained(tmp_path / "unet", **options)
    assert (tmp_path / "unet" / file).is_file()
    weights = unet_weights(tmp_path, ours)
    assert {v.dtype for v in weights.values()} == {torch.float16 if half else torch.float32}
    assert all(torch.equal(v, w) for v, w in zip(weights.values(), unet_weights(tmp_path / "unet", ours).values(), strict=True))
    ours.load_state_dict(weights)
    z, t, context = torch.randn(2, 4, 8, 8), torch.tensor([7, 900]), torch.randn(2, 5, 24)
    assert torch.allclose(ours(z, t, context).sample, theirs.float()(z, t, context).sample, atol=1e-5)
    assert shapes_of(pretrained.to_linear(ours.state_dict())) == shapes_of(theirs.state_dict())


def test_full_precision_comes_before_half(tmp_path: Path) -> None:
    written().save_pretrained(tmp_path)
    written().half().save_pretrained(tmp_path, variant="fp16")
    assert unet_weights(str(tmp_path), build_unet(SMALL))["conv_in.bias"].dtype == torch.float32


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("linear", [False, True])
def test_an_ldm_file_gives_each_of_its_tensors_once(tmp_path: Path, suffix: str, linear: bool) -> None:
    path = tmp_path / f"model{suffix}"
    layout = random(ldm_unet(SMALL, linear), UNET_PREFIX)
    others = {"cond_stage_model.transformer.weight": torch.zeros(2), "first_stage_model.quant_conv.bias": torch.zeros(8)}
    if suffix == ".ckpt":
        torch.save({"state_dict": layout | others, "global_step": 7}, path)
    else:
        save_file(layout | others, path)
    unet = build_unet(SMALL)
    weights = unet_weights(path, unet)
    unet.load_state_dict(weights)
    assert sorted(v.sum().item() for v in weights.values()) == sorted(v.sum().item() for v in layout.values())
    block = f"{UNET_PREFIX}output_blocks.5.1.transformer_blocks.0.attn2.to_k.weight"
    assert torch.equal(weights["up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_k.weight"], layout[block])


def test_other_unets_are_named_by_their_first_keys(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    layout = random(ldm_unet(SMALL), UNET_PREFIX)
    save_file(layout, path)
    with pytest.raises(WeightsError, match=r"m.safetensors holds another network, \d+ keys differ: .*attn2.to_k.weight: file .*24"):
        unet_weights(path, build_unet(SMALL | {"context_width": 16}))
    save_file(layout | {f"{UNET_PREFIX}label_emb.0.0.weight": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"another U-Net .* 1 keys are foreign: label_emb.0.0.weight"):
        unet_weights(path, build_unet(SMALL))
    save_file({k: v for k, v in layout.items() if not k.endswith("input_blocks.1.0.out_layers.3.bias")}, path)
    with pytest.raises(WeightsError, match=r"1 keys differ: down_blocks.0.resnets.0.conv2.bias: file nothing"):
        unet_weights(path, build_unet(SMALL))


# Paths and hub names


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `owner/name` that plays the model hub; `asked` records what was asked for."""
    import huggingface_hub

    root = tmp_path / "hub"

    def snapshot_download(repository: str, allow_patterns: list[str]) -> str:
        source, target = root / repository, tmp_path / "cache" / repository
        if not source.is_dir():
            raise OSError("Repository Not Found\nand more")
        for file in [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]:
            if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / file, target / file)
        return str(target)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return root


def downloaded(hub: Path) -> list[str]:
    return sorted(p.name for p in (hub.parent / "cache").rglob("*") if p.is_file())


def test_a_hub_name_fetches_what_it_needs_and_no_more(hub: Path) -> None:
    written().save_pretrained(hub / "owner/model-v1.4/unet")
    written().save_pretrained(hub / "owner/model-v1.4/unet", safe_serialization=False)
    written().half().save_pretrained(hub / "owner/model-v1.4/unet", variant="fp16")
    unet_weights("owner/model-v1.4", build_unet(SMALL))
    assert downloaded(hub) == ["diffusion_pytorch_model.safetensors"]
    written().save_pretrained(hub / "owner/shards/unet", max_shard_size="1MB")
    unet_weights("owner/shards", build_unet(SMALL))
    shards = len(list((hub / "owner/shards/unet").glob("*-of-*")))
    assert shards > 1 and len(downloaded(hub)) == 1 + shards + 1


def test_a_file_of_a_hub_name(hub: Path) -> None:
    (hub / "owner/ldm/vae").mkdir(parents=True)
    save_file(random(ldm_unet(SMALL), UNET_PREFIX), hub / "owner/ldm/wd.safetensors")
    save_file(random(ldm_vae(SMALL_VAE)), hub / "owner/ldm/vae/kl.safetensors")
    unet_weights("owner/ldm:wd.safetensors", build_unet(SMALL))
    vae("owner/ldm:vae/kl.safetensors", SMALL_VAE)
    with pytest.raises(WeightsError, match=r"owner/ldm on the model hub has no unet/diffusion.*owner/ldm:FILE"):
        unet_weights("owner/ldm", build_unet(SMALL))
    with pytest.raises(WeightsError, match=r"owner/ldm on the model hub has no other.ckpt"):
        unet_weights("owner/ldm:other.ckpt", build_unet(SMALL))
    with pytest.raises(WeightsError, match=r"owner/none is no path here, .* \(Repository Not Found\): give a path"):
        unet_weights("owner/none", build_unet(SMALL))


@pytest.mark.parametrize("source", ["weights/sd.ckpt", "./models/sd15", "/a/b", "~/none", "a/b/c", "sd15", "C:/x.ckpt", "a/b:"])
def test_what_looks_like_a_path_is_not_asked_from_the_hub(source: str, hub: Path) -> None:
    with pytest.raises(WeightsError, match=r"There is no .*: give an existing path, or a hub name"):
        unet_weights(source, build_unet(SMALL))


def test_a_folder_without_the_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    with pytest.raises(WeightsError, match=r"has no unet/diffusion_pytorch_model.safetensors: give another folder"):
        unet_weights(tmp_path, build_unet(SMALL))
    index = tmp_path / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text("[]")
    with pytest.raises(WeightsError, match="is no index of shards"):
        unet_weights(tmp_path, build_unet(SMALL))
    index.write_text(json.dumps({"weight_map": {"conv_in.bias": "lost.safetensors"}}))
    with pytest.raises(WeightsError, match=r"There is no file .*lost.safetensors"):
        unet_weights(tmp_path, build_unet(SMALL))


# The VAE


def test_the_whole_ldm_layout_maps_onto_the_full_size_vae() -> None:
    layout = ldm_vae(SD_VAE)
    with torch.device("meta"):
        module = LatentVAE(**SD_VAE).model
    assert sum(p.numel() for p in module.parameters()) == sum(int(np.prod(s)) for s in layout.values()) == 83_653_863
    for given in (meta(layout), meta(layout, VAE_PREFIX) | {UNET_PREFIX + "out.0.bias": torch.empty(1)}):
        converted = pretrained._vae_weights(Path("f"), given, module.config)
        assert shapes_of(converted) == shapes_of(module.state_dict())


@torch.no_grad()
def test_every_format_of_a_vae_gives_the_same_images(tmp_path: Path) -> None:
    layout = random(ldm_vae(SMALL_VAE))
    save_file(layout, tmp_path / "bare.safetensors")
    torch.save({"state_dict": layout | {"loss.logvar": torch.zeros(1)}}, tmp_path / "training.ckpt")
    whole = {VAE_PREFIX + k: v for k, v in layout.items()} | random(ldm_unet(SMALL), UNET_PREFIX)
    torch.save({"state_dict": whole}, tmp_path / "whole.ckpt")
    first = vae(tmp_path / "bare.safetensors", SMALL_VAE)
    first.model.save_pretrained(tmp_path / "pipeline/vae")
    early = {}
    for k, v in first.model.state_dict().items():
        name = k.replace("to_q.", "query.").replace("to_k.", "key.").replace("to_v.", "value.").replace("to_out.0.", "proj_attn.")
        early[name] = v[:, :, None, None] if name != k and v.ndim == 2 else v
    (tmp_path / "early").mkdir()
    torch.save(early, tmp_path / "early/diffusion_pytorch_model.bin")
    assert len(early) == len(layout) and not first.training and not any(p.requires_grad for p in first.parameters())
    images, latents = torch.rand(1, 3, 16, 24) * 2 - 1, torch.randn(1, 4, 8, 12)
    mean, std = first.encode(images)
    theirs = AutoencoderKL.from_pretrained(tmp_path / "pipeline/vae")
    latent = theirs.encode(images).latent_dist
    assert torch.allclose(mean, latent.mean * 0.18215, atol=1e-6) and torch.allclose(std, latent.std * 0.18215, atol=1e-6)
    assert mean.shape == std.shape == latents.shape
    decoded = first.decode(latents)
    assert decoded.shape == images.shape and torch.allclose(decoded, theirs.decode(latents / 0.18215).sample, atol=1e-6)
    for source in ("training.ckpt", "whole.ckpt", "pipeline", "pipeline/vae", "early"):
        other = vae(tmp_path / source, SMALL_VAE)
        assert torch.equal(other.decode(latents), decoded) and torch.equal(other.encode(images)[0], mean), source


def test_other_autoencoders_are_named_by_their_first_keys(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    layout = random(ldm_vae(SMALL_VAE))
    save_file(layout, path)
    with pytest.raises(WeightsError, match=r"v.safetensors holds another network, \d+ keys differ: decoder.conv_in.weight: file"):
        vae(path, SMALL_VAE | {"latent_channels": 16})
    save_file(layout | {"encoder.mid.attn_2.q.weight": torch.zeros(1), "decoder.extra": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match=r"v.safetensors holds another "):
        vae(path, SMALL_VAE)
    save_file(random(ldm_unet(SMALL), UNET_PREFIX), path)
    with pytest.raises(WeightsError, match=r"keys differ: decoder.conv_in.bias: file nothing"):
        vae(path, SMALL_VAE)


# CLIP


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small architecture under open_clip's names, and random weights of it."""
    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 28, "patch_size": 14, "width": 32, "head_width": 16, "layers": 1},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "configs").mkdir()
    (folder / "configs/Small-ViT.json").write_text(json.dumps(config))
    pooled = {**config, "vision_cfg": config["vision_cfg"] | {"pool_type": "avg"}}  # type: ignore[dict-item]
    (folder / "configs/Pooled-ViT.json").write_text(json.dumps(pooled))
    open_clip.add_model_config(folder / "configs")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("Small-ViT").state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@torch.no_grad()
def test_clip_from_a_file_gives_projected_tokens_and_text(small_clip: Path, tmp_path: Path) -> None:
    weights = read_weights(small_clip / "open_clip_pytorch_model.bin")
    save_file(weights, tmp_path / "clip.safetensors")
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "epoch_1.pt")
    theirs = open_clip.create_model("Small-ViT", pretrained=str(small_clip / "open_clip_pytorch_model.bin")).eval()
    images = torch.rand(2, 3, 28, 28) * 2 - 1
    normal = ((images + 1) / 2 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    ids = pretrained.tokenizer("Small-ViT")(["red hair", "a woman, blue skin"])
    assert ids.shape == (2, 77)
    for source in (small_clip, small_clip / "open_clip_pytorch_model.bin", tmp_path / "clip.safetensors", tmp_path / "epoch_1.pt"):
        model = pretrained.clip("Small-ViT", source)
        tokens = image_tokens(model, images)
        assert tokens.shape == (2, 1 + 4, 24)
        assert torch.allclose(tokens[:, 0], theirs.encode_image(normal, normalize=False), atol=1e-5)
        assert torch.allclose(text_features(model, ids), theirs.encode_text(ids, normalize=True), atol=1e-5)
        assert not model.training and not any(p.requires_grad for p in model.parameters())


@torch.no_grad()
def test_a_tag_brings_its_weights_and_its_activation(small_clip: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(small_clip, hub / "owner/small")
    tags = {"ours": {"hf_hub": "owner/small/", "quick_gelu": True}}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda _, tag: tags.get(tag, {}))
    images = torch.rand(1, 3, 28, 28)
    quick, plain_gelu = pretrained.clip("Small-ViT", "ours"), pretrained.clip("Small-ViT", "owner/small")
    assert downloaded(hub) == ["open_clip_pytorch_model.bin"]
    theirs = open_clip.create_model("Small-ViT", str(small_clip / "open_clip_pytorch_model.bin"), force_quick_gelu=True).eval()
    normal = ((images + 1) / 2 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    assert torch.allclose(image_tokens(quick, images)[:, 0], theirs.encode_image(normal), atol=1e-5)
    assert not torch.allclose(image_tokens(quick, images), image_tokens(plain_gelu, images), atol=1e-5)


def test_the_papers_clip_has_257_tokens_of_the_unets_width() -> None:
    part = compose(["backbone=sd21"]).backbone.parts.clip
    assert open_clip.get_pretrained_cfg(part.model, part.pretrained)["hf_hub"]
    with torch.device("meta"):
        network = open_clip.CLIP(**open_clip.get_model_config(part.model))
        tokens = image_tokens(network, torch.rand(1, 3, 512, 512))
    assert tokens.shape == (1, 1 + 256, full_size("sd21")["context_width"])
    small = compose(["backbone=sd15"]).backbone.parts.clip
    assert open_clip.get_model_config(small.model)["embed_dim"] == full_size("sd15")["context_width"]
    assert open_clip.get_pretrained_cfg(small.model, small.pretrained)["quick_gelu"]


def test_clip_errors_say_what_to_give(small_clip: Path, hub: Path, tmp_path: Path) -> None:
    file = small_clip / "open_clip_pytorch_model.bin"
    with pytest.raises(WeightsError, match="open_clip has no model 'ViT-Z'"):
        pretrained.clip("ViT-Z", file)
    with pytest.raises(WeightsError, match=r"no-such-tag is no path, and no tag of ViT-H-14 .*laion2b_s32b_b79k"):
        pretrained.clip("ViT-H-14", "no-such-tag")
    with pytest.raises(WeightsError, match=r"laion/CLIP-ViT-H-14-laion2B-s32B-b79K is no path here"):
        pretrained.clip("ViT-H-14", "laion2b_s32b_b79k")
    with pytest.raises(WeightsError, match="Pooled-ViT has no projected class token"):
        pretrained.clip("Pooled-ViT", file)
    with pytest.raises(WeightsError, match="towers of another library"):
        pretrained.clip("ViT-B-16-SigLIP", file)
    torch.save({k: v for k, v in read_weights(file).items() if k != "visual.proj"}, tmp_path / "c.pt")
    with pytest.raises(WeightsError, match=r"1 keys differ: visual.proj: file nothing, model \(32, 24\)"):
        pretrained.clip("Small-ViT", tmp_path / "c.pt")


def test_public_parts_make_a_backbone_that_trains_on_images(small_clip: Path, tmp_path: Path) -> None:
    from src.backbone.parts import fingerprint, load_backbone
    from src.model import colorizer
    from src.model.training import Training

    torch.manual_seed(0)
    build_unet(SMALL).save_pretrained(tmp_path / "unet")
    vae_network = SMALL_VAE | {"block_out_channels": (8, 8, 8, 16)}
    LatentVAE(**vae_network).model.save_pretrained(tmp_path / "vae")
    clip = {"model": "Small-ViT", "pretrained": str(small_clip / "open_clip_pytorch_model.bin")}
    parts = {"unet": str(tmp_path), "vae": str(tmp_path), "vae_network": vae_network, "clip": clip}
    options = {"size": 64, "unet": SMALL, "parts": parts}

    backbone = load_backbone(options)
    assert backbone.token_count == 4 and backbone.fingerprint == fingerprint(options)
    scheme = {"shuffled": True, "noisy": True, "drop_rate": 0.0, "dual": 4}
    config = compose(["scale=paper"]).scale
    model = colorizer.pretrained(options, "attention")
    module = Training(model, scheme, plain(config.loss), plain(config.optimizer), 0, backbone)
    batch = {
        "color": torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8),
        "sketch": torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8),
    }
    losses, t = module.losses(batch, torch.Generator().manual_seed(0))
    losses.mean().backward()
    assert losses.shape == t.shape == (2,) and losses.isfinite().all()
    gradients = {key: value.grad for key, value in module.named_parameters()}
    assert all(key.startswith("colorizer.") and value is not None for key, value in gradients.items())
    assert gradients["colorizer.sketch_encoder.first.weight"].abs().sum() > 0
    assert backbone.decode(torch.zeros(1, 4, 8, 8)).shape == (1, 64, 64, 3)

    LatentVAE(**vae_network).model.save_pretrained(tmp_path / "vae")
    assert fingerprint(options) != backbone.fingerprint
