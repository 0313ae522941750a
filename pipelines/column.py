"""Stage: builds one column of one split. `python -m pipelines.column <column> <split> [Hydra overrides]`."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipelines import code_hash, run_stage, stage_config
from src.data.columns import build_column, contents, read_index, shard_keys
from src.files import UserError


def main(arguments: list[str]) -> None:
    name, split, *overrides = arguments
    if name not in COLUMNS:
        raise UserError(f"There is no column {name}. There are: {', '.join(COLUMNS)}.")
    config = stage_config(overrides)
    directory = Path(config.data.root) / split / name
    shards, make, identity, workers = COLUMNS[name](config, split)
    limit = config.data.max_quarantined if name == "color" else 0.0
    identity = {**identity, "code": code_hash(name)}
    index = build_column(directory, shards, make, identity, workers=workers, max_quarantined=limit)
    print(f"{directory}: {index['count']} rows in {len(shards)} shards")


Plan = tuple[Sequence[Sequence[str]], Callable[..., Any], dict[str, Any], int]


def _color(config: DictConfig, split: str) -> Plan:
    from src.data import openmoji

    data = config.data
    keys = openmoji.color_keys(split, config.scale.variants[split], data.val_share, config.scale.drawings[split])
    options = {"size": data.size, "seed": data.seed, "min_colored": data.min_colored}
    shards = [keys[i : i + data.rows_per_shard] for i in range(0, len(keys), data.rows_per_shard)]
    return shards, partial(openmoji.color_shard, **options), {**options, "keys": keys}, _cores()


def _sketch(config: DictConfig, split: str) -> Plan:
    from src.data.derived import sketch_shard

    return _from_images(config, split, "color", partial(sketch_shard, seed=config.data.seed, **config.data.sketch), "color")


def _reference(config: DictConfig, split: str) -> Plan:
    from src.data.derived import reference_shard

    return _from_images(config, split, "color", partial(reference_shard, seed=config.data.seed, **config.data.reference), "color")


def _latent(config: DictConfig, split: str) -> Plan:
    from src.model.features import latent_shard

    return _from_images(config, split, "color", partial(latent_shard, backbone=_backbone(config)), "images")


def _tokens(config: DictConfig, split: str, images: str = "color") -> Plan:
    from src.model.features import tokens_shard

    return _from_images(config, split, images, partial(tokens_shard, backbone=_backbone(config)), "images")


def _backbone(config: DictConfig) -> Any:
    from src.backbone.parts import load_backbone

    return load_backbone(config.backbone)


def _from_images(config: DictConfig, split: str, source: str, make: partial, argument: str) -> Plan:
    """A column with the rows of `source`. Its identity is that of the source's bytes and of its own options."""
    images = Path(config.data.root) / split / source
    index = read_index(images)
    options = {k: v.fingerprint if k == "backbone" else v for k, v in make.keywords.items()}
    identity = {**options, "make": make.func.__name__, "source": contents(index)}
    workers = 1 if "backbone" in make.keywords else _cores()
    return shard_keys(index), partial(make, **{argument: images}), identity, workers


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


COLUMNS: dict[str, Callable[[DictConfig, str], Plan]] = {
    "color": _color,
    "sketch": _sketch,
    "reference": _reference,
    "latent": _latent,
    "tokens": _tokens,
    "tokens_deform": partial(_tokens, images="reference"),
}

if __name__ == "__main__":
    run_stage(main)
