"""Stage: builds one column of one split. `python -m pipelines.column <column> <split> [Hydra overrides]`.

`python -m pipelines.column color <split> --dry-run` counts what the filters remove, for both splits, and opens no image.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipelines import code_hash, run_stage, stage_config
from src.config import plain
from src.data.columns import build_column, contents, read_index, shard_keys
from src.data.rows import forget_rows, survey, write_rows
from src.entry import quoted
from src.files import UserError

PATHS = ["data.root", "data.scratch", *(f"data.source.{name}" for name in ("images", "sketches", "metadata", "shards"))]


def main(arguments: list[str]) -> None:
    name, split, *overrides = arguments
    if name not in COLUMNS:
        raise UserError(f"There is no column {name}. There are: {', '.join(COLUMNS)}.")
    if dry := "--dry-run" in overrides:
        overrides.remove("--dry-run")
    listed = any(argument.startswith("data.source.metadata=[") for argument in overrides)  # which Hydra reads
    config = stage_config(quoted(overrides, [path for path in PATHS if not (listed and path.endswith("metadata"))]))
    if dry:
        return dry_run(config)
    directory = Path(config.data.root) / split / name
    shards, make, identity, workers = COLUMNS[name](config, split)
    limit = config.data.max_quarantined if name == "color" else 0.0
    identity = {**identity, "code": code_hash(name)}
    index = build_column(directory, shards, make, identity, workers=workers, max_quarantined=limit)
    print(f"{directory}: {index['count']} rows in {len(shards)} shards")
    if name == "color" and "source" in config.data:
        forget_rows(_scratch(config) / split)


def dry_run(config: DictConfig) -> None:
    """Prints what the color stages would take: the rows that each filter removes, in order, and those that remain."""
    from src.data.sources import source

    data = config.data
    if "source" not in data:
        raise UserError(f"data={data.name} has no filters: --dry-run is for data=folder, danbooru2021 and webdataset.")
    options = _source_options(config)
    origin = source(options["kind"])
    print(survey(origin.rows(options), origin.FILTERS, data.val_share, config.scale.drawings).table())
    if data.duplicates:
        print("Images that look alike are not counted: a dry run opens no image.")


Plan = tuple[Sequence[Sequence[str]], Callable[..., Any], dict[str, Any], int]


def _color(config: DictConfig, split: str) -> Plan:
    return _from_source(config, split) if "source" in config.data else _openmoji(config, split)


def _source_options(config: DictConfig) -> dict[str, Any]:
    from omegaconf import OmegaConf

    if missing := sorted(OmegaConf.missing_keys(config.data)):
        raise UserError(
            f"Give {' and '.join(f'{key}=...' for key in missing)}, or write it into conf/data/{config.data.name}.yaml."
        )
    return plain(config.data.source)


def _scratch(config: DictConfig) -> Path:
    if "://" in config.data.scratch:
        raise UserError(f"data.scratch is {config.data.scratch}; give a folder that all workers see.")
    return Path(config.data.scratch)


def _from_source(config: DictConfig, split: str) -> Plan:
    """The drawings that data.source names. The identity is that of the rows, and not of the place that they come from."""
    from src.data.color import color_shard
    from src.data.duplicates import find_duplicates
    from src.data.sources import source

    options, data = _source_options(config), plain(config.data)
    kind, scratch = options["kind"], _scratch(config)
    items = source(kind).rows(options)
    if data["duplicates"]:
        found = find_duplicates(kind, options, **data["duplicates"], workers=_cores(), found=scratch / "duplicates.json")
        items = found.apply(items)
    rows = write_rows(
        items,
        split,
        scratch / split,
        val_share=data["val_share"],
        limit=config.scale.drawings[split],
        rows_per_shard=data["rows_per_shard"],
    )
    how = {"kind": kind, "size": data["size"], "image": data["image"], "encoding": data["encode"]}
    make = partial(color_shard, rows=rows.file, starts=rows.starts, options=options, **how)
    return rows.keys, make, {**how, "rows": rows.sha256}, _cores()


def _openmoji(config: DictConfig, split: str) -> Plan:
    from src.data import openmoji

    data = config.data
    keys = openmoji.color_keys(split, config.scale.variants[split], data.val_share, config.scale.drawings[split])
    options = {"size": data.size, "seed": data.seed, "min_colored": data.min_colored}
    shards = [keys[i : i + data.rows_per_shard] for i in range(0, len(keys), data.rows_per_shard)]
    return shards, partial(openmoji.color_shard, **options), {**options, "keys": keys}, _cores()


def _sketch(config: DictConfig, split: str) -> Plan:
    from src.data.derived import check_sketch, sketch_shard

    options = plain(config.data.sketch)
    sources = options.pop("networks")
    check_sketch(options["methods"], options["blend"], options["xdog_options"])
    options["networks"] = _line_networks(options["methods"], sources)
    return _from_images(config, split, "color", partial(sketch_shard, seed=config.data.seed, **options), "color")


def _reference(config: DictConfig, split: str) -> Plan:
    from src.data.derived import check_reference, reference_shard

    options = plain(config.data.reference)
    check_reference(**{key: value for key, value in options.items() if key not in {"device", "encoding"}})
    return _from_images(config, split, "color", partial(reference_shard, seed=config.data.seed, **options), "color")


def _line_networks(methods: dict[str, float], sources: dict[str, Any]) -> dict[str, Any]:
    """Found and checked before the first row."""
    from src.data.derived import NETWORKS

    if not (wanted := [name for name in NETWORKS if methods.get(name)]):
        return {}
    from src.data.line_networks import line_networks

    return line_networks(wanted, sources)


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
    options = {k: _identity(v) for k, v in make.keywords.items()}
    identity = {**options, "make": make.func.__name__, "source": contents(index)}
    # A network uses all cores by itself, and a GPU serves one process.
    alone = any(make.keywords.get(name) for name in ("backbone", "networks", "device"))
    return shard_keys(index), partial(make, **{argument: images}), identity, 1 if alone else _cores()


def _identity(option: Any) -> Any:
    """An option as the column's configuration knows it: weights by their fingerprint."""
    if isinstance(option, dict):
        return {key: _identity(value) for key, value in option.items()}
    return getattr(option, "fingerprint", option)


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
