"""Columns that are made from `color`: sketch and reference here; latents and tokens need a backbone, see `src.model.features`."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.columns import Column, Sample
from src.data.images import encode, from_bytes, image_in
from src.data.lines import xdog
from src.data.mls import DISPLACEMENTS, KINDS, draws, random_map, warp
from src.files import UserError

NETWORKS = ("sketch_keras", "anime2sketch")  # methods that need weights, see `src.data.line_networks`
# How a sketch is made. The order is that of the choice between them, so it never changes; new ones come last.
METHODS = ("xdog", "artist", *NETWORKS)
PNG = {"format": "png"}
# Rows that are in memory at once where a network or a GPU takes several.
ROWS = 32


def row_rng(seed: int, column: str, key: str) -> np.random.Generator:
    """Randomness that depends on seed, column and key alone, so that neither order nor workers change a byte."""
    digest = hashlib.sha256(f"{seed}/{column}/{key}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def check_sketch(methods: Mapping[str, float], blend: float, xdog_options: Mapping[str, float]) -> None:
    """UserError for values of `data.sketch` that no sketch can be made by."""
    if unknown := sorted(methods.keys() - set(METHODS)):
        raise UserError(f"data.sketch.methods has no {unknown[0]}: give weights to {', '.join(METHODS)}.")
    if not (all(weight >= 0 for weight in methods.values()) and 0 < sum(methods.values()) < float("inf")):
        raise UserError("data.sketch.methods must be weights of at least 0, one of them above 0.")
    if not 0 <= blend <= 1:
        raise UserError(f"data.sketch.blend must be a share from 0 to 1, not {blend}.")
    try:
        xdog(np.zeros((1, 1, 3), np.uint8), **xdog_options)
    except (TypeError, ValueError) as error:
        raise UserError(f"data.sketch.xdog_options cannot be used: {error}.") from None


def choose_methods(rng: np.random.Generator, methods: Mapping[str, float], blend: float) -> dict[str, float]:
    """The methods of one sketch and the share of each: one by the weights in `methods`, or, in the share `blend` of cases, two."""
    weights = {name: methods[name] for name in METHODS if methods.get(name, 0) > 0}
    first = _pick(rng, weights)
    others = {name: weight for name, weight in weights.items() if name != first}
    if not others or rng.random() >= blend:
        return {first: 1.0}
    share = rng.random()
    return {first: share, _pick(rng, others): 1 - share}


def _pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    bounds = np.cumsum(list(weights.values()))
    return list(weights)[np.searchsorted(bounds / bounds[-1], rng.random(), side="right")]


Extract = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # colour images to line drawings


def sketch_shard(
    shard: int,
    keys: Sequence[str],
    *,
    color: Path,
    seed: int,
    methods: Mapping[str, float],
    blend: float = 0.0,
    xdog_options: Mapping[str, float] | None = None,
    networks: Mapping[str, Extract] | None = None,
    encoding: Mapping[str, Any] = PNG,
) -> Iterator[tuple[str, Sample]]:
    """Line drawings, each by the method, or the mean of two, that `choose_methods` gives its row; the JSON records which.

    `artist` is the row's own line drawing, its member `line.png`: a row without one is shared among the other methods.
    xdog_options: arguments of `xdog` beside the image; networks: an extractor for each of NETWORKS that has a weight above 0;
    encoding: arguments of `src.data.images.encode`.
    """
    options = dict(xdog_options or {})
    extractors: dict[str, Extract] = {"xdog": lambda images: [xdog(image, **options) for image in images], **(networks or {})}
    for rows in _windows(Column(color), shard, keys):
        chosen = [_methods_of(row, methods, blend, seed) for row in rows]
        lines = [
            {"artist": from_bytes(sample["line.png"], "L")} if "artist" in choice else {}
            for (_, sample), choice in zip(rows, chosen, strict=True)
        ]
        for name, extract in extractors.items():
            places = [i for i, choice in enumerate(chosen) if name in choice]
            drawn = extract([from_bytes(image_in(rows[i][1])) for i in places])
            for i, line in zip(places, drawn, strict=True):
                lines[i][name] = line
        for (key, _), choice, made in zip(rows, chosen, lines, strict=True):
            mean = sum(share * made[name].astype(np.float64) for name, share in choice.items())
            image = encode(np.rint(mean).astype(np.uint8), **encoding)
            yield key, {encoding["format"]: image, "json": _record(choice)}


def _methods_of(row: tuple[str, Sample], methods: Mapping[str, float], blend: float, seed: int) -> dict[str, float]:
    key, sample = row
    possible = {name: weight for name, weight in methods.items() if name != "artist" or "line.png" in sample}
    if not sum(possible.values()):
        raise UserError(f"{key} has no line drawing of its own: give another method a weight in data.sketch.methods.")
    return choose_methods(row_rng(seed, "sketch", key), possible, blend)


def _record(choice: Mapping[str, float]) -> bytes:
    record: dict[str, Any] = {"lines": "+".join(choice)}
    if len(choice) > 1:
        record["shares"] = [round(share, 4) for share in choice.values()]
    return json.dumps(record).encode()


def _windows(column: Column, shard: int, keys: Sequence[str]) -> Iterator[list[tuple[str, Sample]]]:
    rows = list(zip(keys, column.rows(shard), strict=True))
    for start in range(0, len(rows), ROWS):
        yield [(key, column[row]) for key, row in rows[start : start + ROWS]]


def check_reference(kinds: Sequence[str], points: int, spread: float, displacement: str, max_folded: float) -> None:
    """UserError for values of `data.reference` that no deformation can be drawn by."""
    if not kinds or not set(kinds) <= set(KINDS):
        raise UserError(f"data.reference.kinds must be one or more of {', '.join(KINDS)}.")
    if displacement not in DISPLACEMENTS:
        raise UserError(f"data.reference.displacement must be one of {', '.join(DISPLACEMENTS)}, not {displacement}.")
    if not (points >= 0 and 0 <= spread < float("inf") and 0 <= max_folded <= 1):
        raise UserError("data.reference needs points and spread of at least 0, and max_folded from 0 to 1.")


def reference_shard(
    shard: int,
    keys: Sequence[str],
    *,
    color: Path,
    seed: int,
    points: int,
    spread: float,
    kinds: Sequence[str] = KINDS,
    displacement: str = "disc",
    max_folded: float = 1.0,
    device: str | None = None,
    encoding: Mapping[str, Any] = PNG,
) -> Iterator[tuple[str, Sample]]:
    """The drawing, deformed by MLS (Schaefer et al. 2006) with random control points; the kind is drawn with them.

    A deformation that folds more than the share `max_folded` of the drawing is drawn again.
    device: a torch device that deforms in batches; None = the CPU, one by one. Their grey levels differ by one at most, where
    no folded share lies so close to the limit that rounding decides.
    """
    distribution: dict[str, Any] = {"count": points, "spread": spread, "displacement": displacement}
    for rows in _windows(Column(color), shard, keys):
        images = [from_bytes(image_in(sample)) for _, sample in rows]
        rngs = [row_rng(seed, "reference", key) for key, _ in rows]
        drawn = [kinds[int(rng.integers(len(kinds)))] for rng in rngs]
        if device:
            deformed = _deformed_together(images, rngs, drawn, distribution, max_folded, device)
        else:
            deformed = [
                warp(image, random_map(rng, image.shape[:2], kind, max_folded=max_folded, **distribution))
                for image, rng, kind in zip(images, rngs, drawn, strict=True)
            ]
        for (key, _), kind, image in zip(rows, drawn, deformed, strict=True):
            yield key, {encoding["format"]: encode(image, **encoding), "json": json.dumps({"mls": kind}).encode()}


def _deformed_together(
    images: Sequence[np.ndarray],
    rngs: Sequence[np.random.Generator],
    kinds: Sequence[str],
    distribution: Mapping[str, Any],
    max_folded: float,
    device: str,
) -> list[np.ndarray]:
    import torch

    from src.data.mls_batch import backward_maps, folded_shares
    from src.data.mls_batch import warp as warp_together

    sources = [draws(rng, image.shape[:2], **distribution) for rng, image in zip(rngs, images, strict=True)]
    deformed: dict[int, np.ndarray] = {}
    while waiting := [i for i in range(len(images)) if i not in deformed]:
        size = images[waiting[0]].shape[:2]
        batch = [i for i in waiting if images[i].shape[:2] == size]
        p, q = (np.stack(ends) for ends in zip(*(next(sources[i]) for i in batch), strict=True))
        maps = backward_maps(size, p, q, [kinds[i] for i in batch], device=device)
        stacked = torch.from_numpy(np.stack([images[i] for i in batch])).to(device)
        good = (folded_shares(maps) <= max_folded).tolist()
        warped = warp_together(stacked, maps).cpu().numpy()
        deformed.update((i, image) for i, image, unfolded in zip(batch, warped, good, strict=True) if unfolded)
    return [deformed[i] for i in range(len(images))]
