"""Evaluates on held-out sketches with shuffled references: `python -m src.evaluate checkpoint=runs/...`.

Any other method's pictures get the same numbers: `export=<folder>` writes what to colour, `results=<folder>` measures it.
"""

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig

from src.config import CONF
from src.entry import quoted, reported
from src.files import UserError, file_name
from src.held_out import Pairs, export, read_arrays, results_of
from src.measure import Measurer, Samples, entanglement_numbers
from src.methods import OUTSIDE, Cell, Method, Ours


def cells_of(config: DictConfig) -> list[Cell]:
    """Every GS at SGS 1, then every SGS at one GS."""
    along_gs = [Cell(gs) for gs in config.gs]
    return list(dict.fromkeys([*along_gs, *(Cell(config.sgs_at, sgs) for sgs in config.sgs if sgs != 1)]))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
@reported
def main(config: DictConfig) -> None:
    asked = [key for key in ("checkpoint", "baseline", "results", "export") if config.get(key) is not None]
    if len(asked) != 1:
        raise UserError(
            "Give one of checkpoint=<a run's folder>, baseline=<a row of conf/baseline>, results=<a folder of pictures> and "
            "export=<an empty folder>."
        )
    if config.checkpoint is not None:
        evaluate(config, [Path(config.checkpoint)])
    elif config.get("baseline") is not None:
        evaluate_baseline(config)
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
    from src.sampling.batch import devices

    backbone = copy.deepcopy(backbone).to(devices()[0])
    return Measurer(pairs, _split(config), backbone, plain(config.data.sketch.xdog_options), square(config))


def evaluate(config: DictConfig, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Samples each run in every cell, writes `<out>/<name>.json` and `<name>.npz`, and puts the numbers into MLflow.

    A cell whose result is there already, for the same weights and settings, is not sampled again.
    """
    from src.config import plain

    how = (plain(config.sampler), config.noise_level, config.precision, config.compile)
    return evaluate_methods(config, [partial(_ours, folder, how) for folder in folders])


def _ours(folder: Path, how: Sequence[Any], backbone: Any) -> Method:
    return Ours(folder, backbone, *how)


def evaluate_baseline(config: DictConfig) -> dict[str, Any]:
    """The same of the row `config.baseline` of other methods."""
    from src.baselines.method import Baseline

    return evaluate_methods(config, [lambda backbone: Baseline(config)])[0]


def evaluate_methods(config: DictConfig, makers: Sequence[Callable[[Any], Method]]) -> list[dict[str, Any]]:
    """The same of any methods, each made from the backbone when its turn comes."""
    from src.backbone.parts import load_backbone

    backbone = load_backbone(config.backbone)
    pairs = held_out_pairs(config)
    measurer: list[Measurer] = []  # made when first needed: an evaluation that is up to date loads no network

    def measuring() -> Measurer:
        if not measurer:
            measurer.append(_measurer(config, pairs, backbone))
        return measurer[0]

    return [_evaluate_one(config, make(backbone), backbone, pairs, measuring) for make in makers]


def evaluate_folder(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Measures the pictures of another method as `evaluate` does ours, into `<out>/<name>.json` and `<name>.npz`."""
    from src.backbone.parts import load_backbone

    name = file_name(config.name or folder.name)
    pairs = held_out_pairs(config)
    images = {OUTSIDE: results_of(pairs, folder)}
    backbone = load_backbone(config.backbone)
    numbers, samples = _measurer(config, pairs, backbone).numbers(images[OUTSIDE])
    report = {
        "name": name,
        "images": len(pairs),
        "own": pairs.own,
        "cells": {OUTSIDE: {"gs": None, "sgs": None}},
        "measures": _by_measure({OUTSIDE: numbers}),
        "made_from": {"pictures": hashlib.sha256(images[OUTSIDE].tobytes()).hexdigest()} | _made_from(pairs, backbone),
    }
    return _written(config, report, images, {OUTSIDE: samples}, pairs)


def _evaluate_one(
    config: DictConfig, method: Method, backbone: Any, pairs: Pairs, measuring: Callable[[], Measurer]
) -> dict[str, Any]:
    import shutil

    from src.config import plain
    from src.files import config_hash
    from src.metrics.features import available_weights

    path = Path(config.out) / f"{file_name(method.name)}.json"
    settings = {**method.settings, "images": len(pairs), "own": pairs.own}
    made_from = {**method.made_from} | _made_from(pairs, backbone)
    sampled_as = config_hash([settings, made_from, config.precision])
    entangled = config.scale.evaluation.entangled
    wanted = {str(cell): cell for cell in method.cells(cells_of(config))}
    highest = max((cell.gs or 0 for cell in wanted.values()), default=0)
    measured_as = config_hash(
        [available_weights(), plain(config.data.sketch.xdog_options), entangled, highest if entangled else None]
    )
    parts = path.with_name(f".{path.stem}.{sampled_as[:12]}")
    earlier, images, known, samples = _earlier(path, sampled_as, measured_as)
    if earlier and list(known) == list(wanted):
        print(f"{path} is up to date")
        return earlier
    sampled = _Sampled(config, method, parts)
    left = {name: cell for name, cell in wanted.items() if name not in known}
    for name, cell in left.items():
        if name not in images:
            images[name] = sampled(pairs, cell)
        known[name], samples[name] = measuring().numbers(images[name])
    if entangled:
        _entangle(entangled, highest, pairs, left, sampled, images, known, samples)
    rate = sampled.evaluations / sampled.seconds if sampled.evaluations else earlier.get("evaluations_per_second")
    print(f"{path.stem}: {sampled.seconds:.0f} s of sampling" + (f", {rate:.0f} U-Net evaluations/s" if rate else ""), flush=True)
    report = {
        "name": path.stem,
        "sampled_as": sampled_as,
        "measured_as": measured_as,
        **settings,
        "evaluations_per_second": rate,
        "cells": {name: {"gs": cell.gs, "sgs": cell.sgs} for name, cell in wanted.items()},
        **method.known,
        "measures": _by_measure({name: known[name] for name in wanted}),
        "made_from": made_from | {"training_run": method.training_run},
    }
    report = _written(config, report, {name: images[name] for name in wanted}, {name: samples[name] for name in wanted}, pairs)
    shutil.rmtree(parts, ignore_errors=True)
    return report


def _made_from(pairs: Pairs, backbone: Any) -> dict[str, Any]:
    return {"backbone": backbone.fingerprint, "pairs": pairs.identity, "data": pairs.contents}


class _Sampled:
    """A method's results of pairs in cells, by a copy of it on each device; counts its work."""

    def __init__(self, config: DictConfig, method: Method, parts: Path) -> None:
        self.batch, self.method, self.parts = config.scale.evaluation.batch, method, parts
        self.copies: dict[Any, Method] = {}
        self.seconds, self.evaluations = 0.0, 0  # an evaluation is one pass of the U-Net over one drawing

    def __call__(self, pairs: Pairs, cell: Cell, name: str = "") -> np.ndarray:
        """Results uint8 [N, H, W, 3]; name: of the pairs, where a cell is sampled with several."""
        import time

        from src.sampling.batch import devices, in_batches

        self.copies = self.copies or {device: self.method.on(device) for device in devices()}
        given, made = pairs.batch, list[int]()

        def job(rows: slice, device: Any) -> np.ndarray:
            results = self.copies[device](given[rows], cell)
            made.append(len(results))
            return results

        began = time.perf_counter()
        results = in_batches(job, len(pairs), self.batch, list(self.copies), self.parts / f"{str(cell).replace('/', '_')}{name}")
        self.seconds += time.perf_counter() - began
        self.evaluations += sum(made) * self.method.steps * self.method.passes(cell)
        return results


def _entangle(
    count: int,
    highest: float,
    pairs: Pairs,
    missing: Mapping[str, Cell],
    sampled: _Sampled,
    images: Mapping[str, np.ndarray],
    known: dict[str, dict[str, Any]],
    samples: dict[str, Samples],
) -> None:
    """Adds entanglement along GS, of `count` different drawings with two references each; at the highest GS also with permuted
    tokens.
    """
    own, other = (p.of_different_drawings(count) for p in (pairs, pairs.with_other_references()))
    for name, cell in missing.items():
        if cell.sgs != 1:
            continue
        seconds = {"entanglement": other}
        if cell.gs == highest and sampled.method.has_local_tokens:
            seconds["entanglement permuted"] = own.with_permuted_tokens()
        for measure, second in seconds.items():
            results = np.stack([images[name][own.places], sampled(second, cell, f"-{measure}")])
            known[name][measure], values = entanglement_numbers(results, own.drawings)
            samples[name][measure] = np.full(len(pairs), np.nan)
            samples[name][measure][own.places] = values


def _earlier(
    path: Path, sampled_as: str, measured_as: str
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, dict[str, Any]], dict[str, Samples]]:
    """The report of an earlier evaluation; by cell its pictures, if they were sampled in the same way, and its numbers and values,
    if these were measured in the same way as well.
    """
    if not path.exists() or (report := json.loads(path.read_text(encoding="utf-8"))).get("sampled_as") != sampled_as:
        return {}, {}, {}, {}
    images, samples = read_arrays(path.with_suffix(".npz"))
    if report["measured_as"] != measured_as:
        return report, images, {}, {}
    known = {cell: {m: column[cell] for m, column in report["measures"].items() if cell in column} for cell in images}
    return report, images, known, samples


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
