"""Evaluates a trained colorizer on held-out sketches with shuffled references: `python -m src.evaluate checkpoint=runs/...`."""

import copy
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from omegaconf import DictConfig

from src.config import CONF
from src.data.storage import Location
from src.entry import quoted, reported
from src.files import UserError


class Pairs:
    """Held-out sketches, each with another drawing as its reference (the evaluation of Tables 1 and 2).

    `sketches` uint8 [N, H, W], `references` and `truths` uint8 [N, H, W, 3], `tokens` half [N, 1 + n, D], `keys`, `seeds`, and
    `contents`, a hash of the bytes of each column that they are from.
    Which rows, which partners and which noise depend on (count, seed) alone.
    """

    def __init__(self, split: Location, count: int, seed: int, backbone: Any = None, size: int | None = None) -> None:
        """`backbone` makes the tokens where the split has no column of them. Drawings are cut to a square of `size`, if given."""
        from src.data.columns import contents
        from src.data.loader import Table
        from src.data.storage import folder

        cached = backbone is None or "tokens" in folder(split).folders()
        table = Table(split, ["color", "sketch", *(["tokens"] if cached else [])], [(size, size)] if size else [])
        if count > len(table):
            raise UserError(f"{split} has {len(table)} rows, {count} were asked for. Lower evaluation.images or raise variants.")
        rows = np.random.default_rng(seed).permutation(len(table))[:count]
        chosen = [table[int(row)] for row in rows]
        partner = partners([_drawing(sample["key"]) for sample in chosen])
        self.contents = {name: contents(column.index) for name, column in table.columns.items()}
        self.keys = [sample["key"] for sample in chosen]
        self.seeds = [seed * 1_000_003 + int(row) for row in rows]
        self.sketches = np.stack([s["sketch"].numpy() for s in chosen])
        self.truths = np.stack([s["color"].numpy() for s in chosen])
        self.references = self.truths[partner]
        if cached:
            self.tokens = np.stack([chosen[i]["tokens"].half().numpy() for i in partner])
        else:
            self.tokens = _tokens(self.references, backbone)

    def __len__(self) -> int:
        return len(self.keys)


def _tokens(images: np.ndarray, backbone: Any) -> np.ndarray:
    import torch

    from src.backbone.parts import to_input

    with torch.inference_mode():
        parts = [backbone.tokens(to_input(torch.from_numpy(image)[None])).cpu().half().numpy() for image in images]
    return np.concatenate(parts)


def _drawing(key: str) -> str:
    return key.rpartition("_")[0]


def partners(drawings: Sequence[str]) -> np.ndarray:
    """For each place another place with another drawing: the smallest rotation of the list that has no fixed drawing."""
    count = len(drawings)
    for shift in range(1, count):
        order = np.roll(np.arange(count), -shift)
        if all(drawings[i] != drawings[j] for i, j in enumerate(order.tolist())):
            return order
    raise UserError(f"{count} drawings cannot be paired with other ones. Raise evaluation.images.")


def colorize(
    colorizer: Any, backbone: Any, pairs: Pairs, rows: slice = slice(None), *, sampler: Mapping[str, Any], **options: Any
) -> np.ndarray:
    """Results uint8 [N, H, W, 3] of some rows of the pairs, in one batch, on the colorizer's and the backbone's device.

    sampler: `conf/sampler`; options: what else `sample` takes.
    """
    import torch

    from src.backbone.parts import sketch_to_input
    from src.sampling.sampler import sample

    device = next(colorizer.parameters()).device
    latents = sample(
        colorizer,
        sketch_to_input(torch.from_numpy(pairs.sketches[rows])).to(device),
        torch.from_numpy(pairs.tokens[rows]).to(device).float(),
        pairs.seeds[rows],
        latent_channels=backbone.latent_channels,
        factor=backbone.size // backbone.latent_size,
        **sampler,
        **options,
    )
    with torch.inference_mode():
        return backbone.decode(latents).cpu().numpy()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
@reported
def main(config: DictConfig) -> None:
    if config.checkpoint is None:
        raise UserError("Which model? Give checkpoint=<a run's folder>.")
    evaluate(config, [Path(config.checkpoint)])


def evaluate(config: DictConfig, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Samples each run at every guidance scale, writes `<out>/<name>.json` and `<name>.npz`, and adds the numbers to MLflow.

    A guidance scale whose result is there already, for the same weights and settings, is not sampled again.
    """
    from src.backbone.parts import load_backbone

    backbone = load_backbone(config.backbone)
    split = Path(config.data.root) / "val"
    pairs = Pairs(split, config.scale.evaluation.images, config.seed)
    return [_evaluate_one(config, folder, backbone, pairs, split) for folder in folders]


def _evaluate_one(config: DictConfig, folder: Path, backbone: Any, pairs: Pairs, split: Path) -> dict[str, Any]:
    import shutil
    import time

    from src.config import plain
    from src.files import config_hash, file_sha256, write_atomically, write_json
    from src.metrics.features import available
    from src.model.colorizer import load_colorizer
    from src.sampling.batch import devices, in_batches, replica

    colorizer, card = load_colorizer(folder / "model", backbone.fingerprint)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{card.get('name', folder.name)}.json"
    noise_level = config.noise_level if colorizer.kind == "attention" else 0.0  # CLS models have no local tokens
    sampler, batch = plain(config.sampler), config.scale.evaluation.batch
    settings = {"sampler": sampler, "noise_level": noise_level, "sgs": config.sgs, "images": len(pairs)}
    identity = config_hash(
        settings
        | {"weights": file_sha256(folder / "model.safetensors"), "backbone": backbone.fingerprint}
        | {"rows": pairs.keys, "data": pairs.contents, "features": available()}
    )
    parts = out / f".{path.stem}.{identity[:12]}"
    wanted = {f"{gs:g}": gs for gs in config.gs}
    earlier, images = _earlier(path, identity)
    missing = [gs for name, gs in wanted.items() if name not in images]
    if earlier and list(images) == list(wanted):
        print(f"{path} is up to date")
        return earlier
    rate = earlier.get("evaluations_per_second")
    if missing:
        began = time.perf_counter()
        replicas = {d: (replica(colorizer, d, config.precision, config.compile), copy.deepcopy(backbone).to(d)) for d in devices()}
        for gs in missing:
            options: dict[str, Any] = {"sampler": sampler, "gs": gs, "sgs": config.sgs, "noise_level": noise_level}

            def job(rows: slice, device: Any, options: dict[str, Any] = options) -> np.ndarray:
                return colorize(*replicas[device], pairs, rows, **options)

            images[f"{gs:g}"] = in_batches(job, len(pairs), batch, list(replicas), parts / f"gs{gs:g}")
        seconds = time.perf_counter() - began
        passes = sum(1 + (gs != 1) + (config.sgs != 1) for gs in missing)
        evaluations = len(pairs) * config.sampler.steps * passes
        rate = evaluations / seconds
        print(f"{path.stem}: {seconds:.0f} s, {rate:.0f} U-Net evaluations/s", flush=True)
    images = {name: images[name] for name in wanted}
    report = {
        "name": path.stem,
        "identity": identity,
        "sampler": settings["sampler"],
        "noise_level": noise_level,
        "images": len(pairs),
        "evaluations_per_second": rate,
        "mlflow_run": card.get("mlflow_run"),
        "validation": {key: card.get(key) for key in ("val_loss", "val_loss_without_reference")},
        **_joined(earlier, measure({name: images[name] for name in map("{:g}".format, missing)}, pairs, split), wanted),
    }
    arrays: dict[str, Any] = {f"gs{name}": array for name, array in images.items()}
    write_atomically(out / f"{path.stem}.npz", lambda f: np.savez_compressed(f, **arrays))
    _track(config, report, images, pairs)
    write_json(path, report)
    shutil.rmtree(parts, ignore_errors=True)
    return report


def _earlier(path: Path, identity: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The report of an earlier evaluation of the same weights in the same way, and its pictures by guidance scale."""
    if not path.exists() or (report := json.loads(path.read_text()))["identity"] != identity:
        return {}, {}
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        return report, {name.removeprefix("gs"): arrays[name] for name in arrays.files if name[2:] in report["palette_closer"]}


def _joined(earlier: dict[str, Any], new: dict[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """What `measure` gives for all wanted guidance scales, of which an earlier report has some."""

    def column(old: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
        return {gs: fresh[gs] if gs in fresh else old[gs] for gs in wanted}

    known = earlier.get("distances", {})
    return {
        "distances": {name: column(known.get(name, {}), fresh) for name, fresh in new["distances"].items()},
        "palette_closer": column(earlier.get("palette_closer", {}), new["palette_closer"]),
    }


def measure(results: dict[str, np.ndarray], pairs: Pairs, split: Path) -> dict[str, Any]:
    """Frechet distances with 95 % intervals, and colour transfer, each by guidance scale (as text: JSON has no other keys)."""
    from src.metrics.features import available, extractor
    from src.metrics.frechet import bootstrap_interval, distance_of_features
    from src.metrics.palette import closer_share

    distances: dict[str, dict[str, Any]] = {}
    for name in available():
        features = extractor(name)
        real = reference_features(split, name)
        column: dict[str, Any] = {}
        for gs, images in results.items():
            ours = features.call(images)
            low, high = bootstrap_interval(ours, real)
            column[gs] = {"value": distance_of_features(ours, real), "low": low, "high": high}
        distances[features.distance_name] = column
    palette = {
        gs: dict(zip(("share", "low", "high"), closer_share(list(images), list(pairs.references)), strict=True))
        for gs, images in results.items()
    }
    return {"distances": distances, "palette_closer": palette}


def reference_features(split: Path, name: str) -> np.ndarray:
    """Features of all real drawings of a split, kept beside the data, under the hash of their column."""
    from src.data.columns import Column
    from src.data.images import array_bytes, array_from, from_bytes, image_in
    from src.files import write_atomically
    from src.metrics.features import extractor

    column = Column(split / "color")
    path = split.parent / "features" / f"{split.name}-{name}-{column.index['config'][:12]}.npy"
    if not path.exists():
        features = extractor(name).call(np.stack([from_bytes(image_in(sample)) for _, sample in column]))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda f: f.write(array_bytes(features)))
    return array_from(path.read_bytes())


def _track(config: DictConfig, report: dict[str, Any], results: dict[str, np.ndarray], pairs: Pairs) -> None:
    """Adds FD against GS and the guidance grid to the run that trained the model, if it was tracked here."""
    from src.grids import rows_image
    from src.tracking import log_image, log_table

    run_id = report["mlflow_run"]
    if run_id is None:
        return
    sigmas = config.sampler.sigmas
    for distance, column in report["distances"].items():
        log_table(run_id, {float(gs): v["value"] for gs, v in column.items()}, f"{distance}/{sigmas}", config.tracking_uri)
    closer = {float(gs): v["share"] for gs, v in report["palette_closer"].items()}
    log_table(run_id, closer, f"palette_closer/{sigmas}", config.tracking_uri)
    shown = [pairs.sketches[:8], pairs.references[:8], *(images[:8] for images in results.values())]
    titles = ["sketch", "reference", *(f"GS-{gs}" for gs in results)]
    log_image(run_id, rows_image(shown, titles), f"guidance-{sigmas}.png", config.tracking_uri)


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("checkpoint", "out"))
    main()
