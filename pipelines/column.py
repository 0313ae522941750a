"""Stage: builds one column of one split. `python -m pipelines.column <column> <split> [Hydra overrides]`.

`python -m pipelines.column color <split> --dry-run` counts what the filters remove, for both splits, and opens no image.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pipelines import code_hash, run_stage, stage_config
from src.config import plain
from src.data.columns import build_column, contents, read_index, shard_keys
from src.data.engines import Engine, cores
from src.data.rows import forget_rows, survey, write_rows
from src.data.storage import folder
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
    directory = folder(config.data.root) / split / name
    shards, make, identity = COLUMNS[name](config, split)
    limit = config.data.max_quarantined if name == "color" else 0.0
    # A network uses all cores by itself, and a GPU serves one process.
    alone = any(make.keywords.get(option) for option in ("backbone", "networks", "device"))
    identity = {**identity, "code": code_hash(name)}
    index = build_column(directory, shards, make, identity, engine=_engine(config, gpu=alone), max_quarantined=limit)
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


# The keys of each shard, what makes a shard, and the identity of what it makes.
Plan = tuple[Sequence[Sequence[str]], partial, dict[str, Any]]


def _engine(config: DictConfig, gpu: bool) -> Engine:
    """gpu: the jobs need a GPU each where there are any; without, one process has all cores."""
    workers = None if config.data.workers == "auto" else int(config.data.workers)
    return Engine(config.data.engine, workers, config.data.address, gpu)


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
        found = find_duplicates(kind, options, **data["duplicates"], workers=cores(), found=scratch / "duplicates.json")
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
    return rows.keys, make, {**how, "rows": rows.sha256}


def _openmoji(config: DictConfig, split: str) -> Plan:
    from src.data import openmoji

    data = config.data
    keys = openmoji.color_keys(split, config.scale.variants[split], data.val_share, config.scale.drawings[split])
    options = {"size": data.size, "seed": data.seed, "min_colored": data.min_colored}
    shards = [keys[i : i + data.rows_per_shard] for i in range(0, len(keys), data.rows_per_shard)]
    return shards, partial(openmoji.color_shard, **options), {**options, "keys": keys}


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

    make = partial(latent_shard, backbone=plain(config.backbone))
    return _from_images(
        config, split, "color", partial(make, pixels=config.backbone.size**2) if config.scale.buckets else make, "images"
    )


def _tokens(config: DictConfig, split: str, images: str = "color") -> Plan:
    from src.model.features import tokens_shard

    if config.data.tokens_bits not in {8, 16}:
        raise UserError(f"data.tokens_bits is {config.data.tokens_bits}; it is 16 or 8.")
    make = partial(tokens_shard, backbone=plain(config.backbone))
    if config.data.tokens_bits == 8:
        make = partial(make, bits=8)
    return _from_images(config, split, images, make, "images")


def _from_images(config: DictConfig, split: str, source: str, make: partial, argument: str) -> Plan:
    """A column with the rows of `source`. Its identity is that of the source's bytes and of its own options."""
    images = folder(config.data.root) / split / source
    index = read_index(images)
    options = {k: _fingerprint(v) if k == "backbone" else _identity(v) for k, v in make.keywords.items()}
    identity = {**options, "make": make.func.__name__, "source": contents(index)}
    return shard_keys(index), partial(make, **{argument: images}), identity


def _identity(option: Any) -> Any:
    """An option as the column's configuration knows it: weights by their fingerprint."""
    if isinstance(option, dict):
        return {key: _identity(value) for key, value in option.items()}
    return getattr(option, "fingerprint", option)


def _fingerprint(backbone: dict[str, Any]) -> str:
    from src.backbone.parts import fingerprint

    return fingerprint(backbone)


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
