"""Weights files, and CLIP's tokens against open_clip's own forward."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from src.backbone.clip import Vocabulary, exchange_colour, image_tokens, region_pool, text_features
from src.backbone.parts import load_backbone, load_weights, sketch_to_input, to_input, to_uint8
from src.backbone.vae import PatchVAE
from src.weights import WeightsError


@torch.no_grad()
def test_the_cls_row_is_open_clips_image_feature(backbone_directory: Path) -> None:
    clip = load_backbone({"directory": backbone_directory}).clip
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    from src.backbone.clip import MEAN, STD

    normal = ((images + 1) / 2 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    tokens = image_tokens(clip, images)
    assert tokens.shape == (2, 65, 128)
    assert torch.allclose(tokens[:, 0], clip.encode_image(normal, normalize=False), atol=1e-5)


@torch.no_grad()
def test_text_features_are_open_clips(backbone_directory: Path) -> None:
    backbone = load_backbone({"directory": backbone_directory})
    ids = backbone.vocabulary(["red hair", "woman, blue skin"])
    assert torch.allclose(text_features(backbone.clip, ids), backbone.clip.encode_text(ids, normalize=True), atol=1e-5)


@torch.no_grad()
def test_parts_in_half_precision_are_near_and_give_float32(backbone_directory: Path) -> None:
    whole, half = (load_backbone({"directory": backbone_directory}).to("cpu", d) for d in (torch.float32, torch.bfloat16))
    images = torch.nn.functional.interpolate(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1, (64, 64))
    (mean, std), tokens = whole.encode(images), whole.tokens(images)
    exact = {"mean": mean, "std": std, "tokens": tokens, "text": whole.text(["red hair"])}
    (mean, std), tokens = half.encode(images), half.tokens(images)
    for name, rounded in {"mean": mean, "std": std, "tokens": tokens, "text": half.text(["red hair"])}.items():
        assert rounded.dtype == torch.float32
        error = float((rounded - exact[name]).norm() / exact[name].norm())
        assert 0 < error < 0.02, name  # bfloat16 rounds to 1 in 256
    pictures = whole.decode(exact["mean"]).int() - half.decode(exact["mean"]).int()
    assert pictures.abs().max() <= 4


def test_unknown_words_are_named(backbone_directory: Path) -> None:
    vocabulary = load_backbone({"directory": backbone_directory}).vocabulary
    assert vocabulary.unknown("a red dragon") == ["a", "dragon"]
    ids = vocabulary(["red " * 50])
    assert ids.shape == (1, 32) and int(ids[0, -1]) == len(vocabulary) - 1
    assert len(Vocabulary.of(["red"], 8)) == 4


def test_wrong_weights_name_the_first_keys(backbone_directory: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds another network, \d+ keys differ: .*file .*model"):
        load_weights(backbone_directory / "vae", PatchVAE(width=24, encoder=1, decoder=1))


def test_damaged_and_missing_files(backbone_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(backbone_directory, tmp_path / "b")
    (tmp_path / "b/vae.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_backbone({"directory": tmp_path / "b"})
    (tmp_path / "b/clip.json").write_text("[1]")
    with pytest.raises(WeightsError, match="not the card"):
        load_backbone({"directory": tmp_path / "b"})
    with pytest.raises(WeightsError, match="There is no"):
        load_backbone({"directory": tmp_path})


def test_a_card_holds_the_hash_of_its_weights(backbone_directory: Path) -> None:
    from src.files import file_sha256

    for part in ("vae", "clip", "t2i"):
        assert json.loads((backbone_directory / f"{part}.json").read_text())["sha256"] == file_sha256(
            backbone_directory / f"{part}.safetensors"
        )


def test_ranges() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    assert torch.equal(to_uint8(to_input(images)), images)
    sketch = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert sketch_to_input(sketch)[0, :, 0].tolist() == [[1, -1]] * 3


def test_region_pool_means_the_tokens_under_a_mask() -> None:
    tokens = torch.arange(4.0).view(1, 4, 1)
    regions = torch.tensor([[[1, 1], [2, 0]]])
    pooled, share = region_pool(tokens, regions, 2)
    assert pooled.flatten().tolist() == [0.5, 2.0] and share.flatten().tolist() == [0.5, 0.25]


def test_exchange_colour_changes_one_word() -> None:
    import numpy as np

    text = "cat, red hair, blue"
    changed = exchange_colour(text, ["red", "blue", "green"], np.random.default_rng(0))
    assert sum(a != b for a, b in zip(text.split(), changed.split(), strict=True)) == 1 and "green" in changed
    assert exchange_colour("cat", ["red"], np.random.default_rng(0)) == "cat"
