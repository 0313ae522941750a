"""Evaluates on held-out sketches with shuffled references: `python -m src.evaluate checkpoint=runs/...`.

Any other method's pictures get the same numbers: `export=<folder>` writes what to colour, `results=<folder>` measures it.
"""

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
import numpy as np
from omegaconf import DictConfig

from src.config import CONF
from src.entry import quoted, reported
from src.files import UserError
from src.held_out import Pairs, colorize, export, results_of
from src.measure import Measurer, Samples, entanglement_numbers

OUTSIDE = "-"  # the cell of a method whose guidance scale is its own affair


class Cell(NamedTuple):
    """A place in a table: guidance scales of reference and sketch, or None for a method that is not ours."""

    gs: float | None
    sgs: float = 1.0

    def __str__(self) -> str:
        return OUTSIDE if self.gs is None else f"{self.gs:g}" + (f"/{self.sgs:g}" if self.sgs != 1 else "")


def cells_of(config: DictConfig) -> list[Cell]:
    """Every GS at SGS 1, then every SGS at one GS."""
    along_gs = [Cell(gs) for gs in config.gs]
    return list(dict.fromkeys([*along_gs, *(Cell(config.sgs_at, sgs) for sgs in config.sgs if sgs != 1)]))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
@reported
def main(config: DictConfig) -> None:
    asked = [key for key in ("checkpoint", "results", "export") if config[key] is not None]
    if len(asked) != 1:
        raise UserError("Give one of checkpoint=<a run's folder>, results=<a folder of pictures> and export=<an empty folder>.")
    if config.checkpoint is not None:
        evaluate(config, [Path(config.checkpoint)])
    elif config.results is not None:
        evaluate_folder(config, Path(config.results))
    else:
        export(held_out_pairs(config), Path(config.export))


def held_out_pairs(config: DictConfig) -> Pairs:
    """The pairs that a configuration evaluates on."""
    return Pairs(_split(config), config.scale.evaluation.images, config.seed, size=square(config), own=config.own_references)


def _split(config: DictConfig) -> Path:
    return Path(config.data.root) / "val"


def square(config: DictConfig) -> int | None:
    """The side that drawings are cut to, where they kept their proportions."""
    return config.backbone.size if config.scale.buckets else None


def _measurer(config: DictConfig, pairs: Pairs, backbone: Any) -> Measurer:
    from src.config import plain

    return Measurer(pairs, _split(config), backbone, plain(config.data.sketch.xdog_options), square(config))


def evaluate(config: DictConfig, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Samples each run in every cell, writes `<out>/<name>.json` and `<name>.npz`, and puts the numbers into MLflow.

    A cell whose result is there already, for the same weights and settings, is not sampled again.
    """
    from src.backbone.parts import load_backbone

    backbone = load_backbone(config.backbone)
    pairs = held_out_pairs(config)
    measurer: list[Measurer] = []  # made when first needed: an evaluation that is up to date loads no network

    def measuring() -> Measurer:
        if not measurer:
            measurer.append(_measurer(config, pairs, backbone))
        return measurer[0]

    return [_evaluate_one(config, folder, backbone, pairs, measuring) for folder in folders]


def evaluate_folder(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Measures the pictures of another method as `evaluate` does ours, into `<out>/<name>.json` and `<name>.npz`."""
    from src.backbone.parts import load_backbone

    name = config.name or folder.name
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"name is {name!r}; give a name that a file can have.")
    pairs = held_out_pairs(config)
    images = {str(Cell(None)): results_of(pairs, folder)}
    backbone = load_backbone(config.backbone)
    numbers, samples = _measurer(config, pairs, backbone).numbers(images[OUTSIDE])
    report = {
        "name": name,
        "identity": hashlib.sha256(images[OUTSIDE].tobytes()).hexdigest(),
        "images": len(pairs),
        "cells": {OUTSIDE: {"gs": None, "sgs": None}},
        "measures": _by_measure({OUTSIDE: numbers}),
        "made_from": {"data": pairs.contents},
    }
    return _written(config, report, images, {OUTSIDE: samples}, pairs)


def _evaluate_one(
    config: DictConfig, folder: Path, backbone: Any, pairs: Pairs, measuring: Callable[[], Measurer]
) -> dict[str, Any]:
    import shutil

    from src.config import plain
    from src.files import config_hash, file_sha256
    from src.metrics.features import available
    from src.model.colorizer import load_colorizer

    colorizer, card = load_colorizer(folder / "model", backbone.fingerprint)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{card.get('name', folder.name)}.json"
    noise_level = config.noise_level if colorizer.kind == "attention" else 0.0  # CLS models have no local tokens
    settings = {"sampler": plain(config.sampler), "noise_level": noise_level, "images": len(pairs), "own": pairs.own}
    made_from = {"checkpoint": file_sha256(folder / "model.safetensors"), "backbone": backbone.fingerprint, "data": pairs.contents}
    entangled = config.scale.evaluation.entangled
    identity = config_hash(settings | made_from | {"rows": pairs.keys, "features": available(), "entangled": entangled})
    parts = out / f".{path.stem}.{identity[:12]}"
    wanted = {str(cell): cell for cell in cells_of(config)}
    earlier, images, samples = _earlier(path, identity)
    missing = {name: cell for name, cell in wanted.items() if name not in images}
    if earlier and list(images) == list(wanted):
        print(f"{path} is up to date")
        return earlier
    known = {name: {measure: column[name] for measure, column in earlier["measures"].items() if name in column} for name in images}
    rate = earlier.get("evaluations_per_second")
    if missing:
        sampled = _Sampled(config, colorizer, backbone, settings, parts)
        for name, cell in missing.items():
            images[name] = sampled(pairs, cell)
            known[name], samples[name] = measuring().numbers(images[name])
        if entangled:
            _entangle(config, pairs, missing, sampled, images, known, samples)
        rate = sampled.rate
        print(f"{path.stem}: {sampled.seconds:.0f} s of sampling, {rate:.0f} U-Net evaluations/s", flush=True)
    report = {
        "name": path.stem,
        "identity": identity,
        "folder": str(folder),
        **settings,
        "evaluations_per_second": rate,
        "cells": {name: {"gs": cell.gs, "sgs": cell.sgs} for name, cell in wanted.items()},
        "validation": {key: card.get(key) for key in ("val_loss", "val_loss_without_reference")},
        "measures": _by_measure({name: known[name] for name in wanted}),
        "made_from": made_from | {"training_run": card.get("mlflow_run")},
    }
    report = _written(config, report, {name: images[name] for name in wanted}, {name: samples[name] for name in wanted}, pairs)
    shutil.rmtree(parts, ignore_errors=True)
    return report


class _Sampled:
    """Samples pairs in cells, with a copy of the network on each device, and counts its work."""

    def __init__(self, config: DictConfig, colorizer: Any, backbone: Any, settings: Mapping[str, Any], parts: Path) -> None:
        from src.sampling.batch import devices, replica

        self.kind, self.settings, self.parts, self.batch = colorizer.kind, settings, parts, config.scale.evaluation.batch
        self.replicas = {
            d: (replica(colorizer, d, config.precision, config.compile), copy.deepcopy(backbone).to(d)) for d in devices()
        }
        self.seconds, self.evaluations = 0.0, 0

    @property
    def rate(self) -> float:
        """U-Net evaluations, of one drawing each, a second."""
        return self.evaluations / self.seconds

    def __call__(self, pairs: Pairs, cell: Cell, name: str = "") -> np.ndarray:
        """Results uint8 [N, H, W, 3]; name: of the pairs, where a cell is sampled with several."""
        import time

        from src.sampling.batch import in_batches

        options = {"sampler": self.settings["sampler"], "noise_level": self.settings["noise_level"], "gs": cell.gs, "sgs": cell.sgs}
        began = time.perf_counter()
        results = in_batches(
            lambda rows, device: colorize(*self.replicas[device], pairs, rows, **options),
            len(pairs), self.batch, list(self.replicas), self.parts / f"{str(cell).replace('/', '_')}{name}",
        )  # fmt: skip
        self.seconds += time.perf_counter() - began
        self.evaluations += len(pairs) * self.settings["sampler"]["steps"] * (1 + (cell.gs != 1) + (cell.sgs != 1))
        return results


def _entangle(
    config: DictConfig,
    pairs: Pairs,
    missing: Mapping[str, Cell],
    sampled: _Sampled,
    images: Mapping[str, np.ndarray],
    known: dict[str, dict[str, Any]],
    samples: dict[str, Samples],
) -> None:
    """Adds entanglement along GS, of different drawings with two references each; at the highest GS also with permuted tokens."""
    count = config.scale.evaluation.entangled
    own, other = (p.of_different_drawings(count) for p in (pairs, pairs.with_other_references()))
    for name, cell in missing.items():
        if cell.sgs != 1:
            continue
        seconds = {"entanglement": other}
        if cell.gs == max(config.gs) and sampled.kind == "attention":  # a CLS model has one token
            seconds["entanglement permuted"] = own.with_permuted_tokens()
        for measure, second in seconds.items():
            results = np.stack([images[name][own.places], sampled(second, cell, f"-{measure}")])
            known[name][measure], values = entanglement_numbers(results, own.drawings)
            samples[name][measure] = np.full(len(pairs), np.nan)
            samples[name][measure][own.places] = values


def _earlier(path: Path, identity: str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, Samples]]:
    """The report of an earlier evaluation of the same weights in the same way, with its pictures and values by cell."""
    if not path.exists() or (report := json.loads(path.read_text()))["identity"] != identity:
        return {"measures": {}}, {}, {}
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        images = {cell: arrays[f"images {cell}"] for cell in report["cells"]}
        samples: dict[str, Samples] = {cell: {} for cell in images}
        for name in arrays.files:
            kind, cell, *measure = name.split(" ", 2)
            if kind == "samples":
                samples[cell][measure[0]] = arrays[name]
    return report, images, samples


def _by_measure(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Numbers by cell and measure as numbers by measure and cell, in the order of tables."""
    from src.measure import MEASURES

    return {m: column for m in MEASURES if (column := {cell: numbers[m] for cell, numbers in cells.items() if m in numbers})}


def _written(
    config: DictConfig, report: dict[str, Any], images: dict[str, np.ndarray], samples: dict[str, Samples], pairs: Pairs
) -> dict[str, Any]:
    """The report with its run in MLflow; arrays and report are in `config.out` then."""
    from src.files import write_atomically, write_json
    from src.tracking import address, log_evaluation

    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"images {cell}": array for cell, array in images.items()}
    arrays |= {f"samples {cell} {name}": values for cell, column in samples.items() for name, values in column.items()}
    write_atomically(out / f"{report['name']}.npz", lambda f: np.savez_compressed(f, **arrays))
    training = address(report["made_from"].get("training_run"), config.tracking_uri)
    row = log_evaluation(config, report, samples, pairs.keys, _grid(images, pairs))
    report |= {"runs": {"training": training, "evaluation": row}}
    write_json(out / f"{report['name']}.json", report)
    return report


def _grid(images: Mapping[str, np.ndarray], pairs: Pairs) -> np.ndarray:
    """Sketch, reference and results of the first eight pairs, a column a cell."""
    from src.grids import rows_image
    from src.measure import cell_title

    shown = [pairs.sketches[:8], pairs.references[:8], *(array[:8] for array in images.values())]
    return rows_image(shown, ["sketch", "reference", *(cell_title(cell) for cell in images)])


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("checkpoint", "results", "export", "out", "name"))
    main()
