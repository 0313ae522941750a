"""Small real data and a small random backbone, made once a session."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# One thread where tests run side by side: two processes with two threads each are slower on two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def backbone_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VAE, CLIP and U-Net of the demo's classes with random weights, in the files' real format."""
    import torch
    from omegaconf import OmegaConf

    from src.backbone.clip import Vocabulary, build_clip
    from src.backbone.parts import save_weights
    from src.backbone.vae import PatchVAE
    from src.config import compose
    from src.model.unet import build_unet

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("backbone")
    options = OmegaConf.to_container(compose().backbone, resolve=True)
    vae = PatchVAE(width=16, encoder=1, decoder=1, head=8)
    save_weights(directory / "vae", vae.state_dict(), {"network": vae.config})
    vocabulary = Vocabulary.of(["woman, red hair, blue skin, green clothes"], 32)
    vision = {"image_size": 64, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
    network = {
        "embed_dim": 128, "context_length": 32, "vocab_size": len(vocabulary),
        "vision": vision, "text": {"width": 32, "heads": 2, "layers": 1},
    }  # fmt: skip
    save_weights(directory / "clip", build_clip(**network).state_dict(), {"network": network, "kept": vocabulary.kept})
    save_weights(directory / "t2i", build_unet(options["unet"]).state_dict(), {"network": options["unet"]})
    return directory


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory, backbone_directory: Path) -> Path:
    """All columns of a few real drawings, built by the pipeline's own code."""
    from functools import partial

    from src.data import openmoji
    from src.data.columns import build_column, shard_keys
    from src.data.derived import reference_shard, sketch_shard
    from src.model.features import latent_shard, tokens_shard

    root = tmp_path_factory.mktemp("data")
    backbone = {"directory": str(backbone_directory)}
    for split in ("train", "val"):
        keys = openmoji.color_keys(split, 1, 0.12)[:28]
        shards = [keys[:12], keys[12:]]
        color = root / split / "color"
        make = partial(openmoji.color_shard, size=64, seed=0, min_colored=0.02)
        shards = shard_keys(build_column(color, shards, make, {"n": 1}, max_quarantined=0.5))
        for name, maker in {
            "sketch": partial(sketch_shard, color=color, seed=0, methods={"xdog": 1, "artist": 1}),
            "reference": partial(reference_shard, color=color, seed=0, points=4, spread=0.1),
            "latent": partial(latent_shard, images=color, backbone=backbone),
            "tokens": partial(tokens_shard, images=color, backbone=backbone),
        }.items():
            build_column(root / split / name, shards, maker, {"n": 1})
        reference = partial(tokens_shard, images=root / split / "reference", backbone=backbone)
        build_column(root / split / "tokens_deform", shards, reference, {"n": 1})
    return root


Command = Callable[..., subprocess.CompletedProcess[str]]


def commands(folder: Path, backbone_directory: Path, data_root: Path) -> Command:
    """Runs an entry point as a user does, in `folder`, on the small data at scale smoke unless `places` is off."""

    def run(module: str, *arguments: str, cwd: Path = folder, places: bool = True) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLORIZE_BACKBONE": str(backbone_directory)}
        small = ["scale=smoke", f"data.root={data_root}"] if places else []
        whole = [sys.executable, "-m", module, *(a for a in arguments if a == "-m"), *small, *(a for a in arguments if a != "-m")]
        return subprocess.run(whole, cwd=cwd, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def command(tmp_path: Path, backbone_directory: Path, data_root: Path) -> Command:
    return commands(tmp_path, backbone_directory, data_root)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, backbone_directory: Path, data_root: Path) -> Path:
    """The folder of a finished run, with its MLflow store three folders up. To be read only."""
    folder = tmp_path_factory.mktemp("trained")
    result = commands(folder, backbone_directory, data_root)("src.train", "epochs=1")
    assert result.returncode == 0, result.stderr
    return folder / "runs/smoke/Shuffle-0 (1 epochs)"


@pytest.fixture
def pair(tmp_path: Path, backbone_directory: Path, trained: Path) -> dict[str, Any]:
    """The configuration of `src.sample` for a sketch of 60 x 90 and a reference in `tmp_path`, at three steps."""
    import numpy as np
    from PIL import Image

    from src.config import compose, plain

    rng = np.random.default_rng(0)
    Image.fromarray((rng.random((90, 60)) > 0.1).astype(np.uint8) * 255).save(tmp_path / "sketch.png")
    Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / "reference.png")
    settings = plain(compose(["sampler.steps=3", f"backbone.directory={backbone_directory}"], "sample"))
    paths = {name: str(tmp_path / f"{name}.png") for name in ("sketch", "reference", "output")}
    return settings | paths | {"checkpoint": str(trained)}
