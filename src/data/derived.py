"""Columns that are made from `color`: sketch and reference here; latents and tokens need a backbone, see `src.model.features`."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from src.data.columns import Column, Sample
from src.data.images import from_bytes, image_in, to_png
from src.data.lines import xdog
from src.data.mls import control_points, deform


def row_rng(seed: int, column: str, key: str) -> np.random.Generator:
    """Randomness that depends on seed, column and key alone, so that neither order nor workers change a byte."""
    digest = hashlib.sha256(f"{seed}/{column}/{key}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def sketch_shard(shard: int, keys: Sequence[str], *, color: Path, seed: int, extracted: float) -> Iterator[tuple[str, Sample]]:
    """Line drawings: extracted from the colour image (XDoG) for the share `extracted`, the artist's own line layer otherwise."""
    column = Column(color)
    for key, row in zip(keys, column.rows(shard), strict=True):
        sample = column[row]
        extract = row_rng(seed, "sketch", key).random() < extracted
        sketch = xdog(from_bytes(image_in(sample))) if extract else from_bytes(sample["line.png"], "L")
        yield key, {"png": to_png(sketch), "json": b'{"lines": "%s"}' % (b"xdog" if extract else b"artist")}


def reference_shard(
    shard: int, keys: Sequence[str], *, color: Path, seed: int, points: int, spread: float
) -> Iterator[tuple[str, Sample]]:
    """The drawing, deformed by MLS (Schaefer et al. 2006) with random control points; the kind is drawn with them."""
    column = Column(color)
    for key, row in zip(keys, column.rows(shard), strict=True):
        image = from_bytes(image_in(column[row]))
        rng = row_rng(seed, "reference", key)
        kind = ("affine", "similarity", "rigid")[rng.integers(3)]
        p, q = control_points(rng, image.shape[:2], points, spread)
        yield key, {"png": to_png(deform(image, p, q, kind)), "json": b'{"mls": "%s"}' % kind.encode()}
