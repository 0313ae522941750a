"""Stages that train the demo backbone, out of reach of a bare `dvc repro`: `dvc repro pipelines/backbone/dvc.yaml` runs them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from pipelines import code_hash, continued
from src.config import plain
from src.files import config_hash

STAGES = "pipelines/backbone/dvc.yaml"


def checkpoint_of(config: DictConfig, name: str, columns: Sequence[str], **settings: Any) -> Path:
    """Where the training of a part is saved and continues, as long as its code, `settings` and columns are the same."""
    from src.data.columns import contents, read_index

    root = Path(config.backbone.data)
    data = {column: contents(read_index(root / "train" / column)) for column in columns}
    identity = {**settings, "seed": config.seed, "data": data, "code": code_hash(name, STAGES)}
    return continued(root / "runs" / name, config_hash(identity)) / "last.pt"


def images_of(config: DictConfig, split: str, extension: str = "png", mode: str = "RGB") -> torch.Tensor:
    """One image column of the backbone's data in memory: uint8 [N, H, W, 3], or [N, H, W] for mode L."""
    from src.data.columns import Column
    from src.data.images import from_bytes

    column = Column(Path(config.backbone.data) / split / "color")
    return torch.from_numpy(np.stack([from_bytes(sample[extension], mode) for _, sample in column]))


def metas_of(config: DictConfig, split: str) -> list[dict[str, Any]]:
    """Caption, parts and identity of every row."""
    from src.data.columns import Column

    return [json.loads(sample["json"]) for _, sample in Column(Path(config.backbone.data) / split / "color")]


def save_part(config: DictConfig, name: str, weights: dict[str, torch.Tensor], card: dict[str, Any]) -> None:
    """Writes `<name>.safetensors` in half precision and its card `<name>.json` into the backbone's directory."""
    from src.backbone.parts import save_weights

    settings = plain(config.backbone[name])
    save_weights(Path(config.backbone.directory) / name, weights, {**card, "settings": settings})
