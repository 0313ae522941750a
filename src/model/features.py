"""Cached features as columns: VAE latents (mean and standard deviation) and CLIP tokens, in half precision or 8 bits."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from src.backbone.parts import Backbone, load_backbone, to_input
from src.data.buckets import bucket_sizes, fill, nearest
from src.data.columns import Column, Sample, row_sizes
from src.data.images import array_bytes, from_bytes, image_in
from src.data.storage import Location
from src.data.tokens import encode_tokens

BATCH = 64


def latent_shard(
    shard: int, keys: Sequence[str], *, images: Location, backbone: Mapping[str, Any], pixels: int | None = None
) -> Iterator[tuple[str, Sample]]:
    """Latents of a colour column, each [C, h, w]: the mean and std, so that training can still sample.

    backbone: a configuration of `conf/backbone`. pixels: each image is cut to its bucket of so many pixels; None = as it is.
    """
    parts = _loaded(backbone)
    for batch, arrays in _batches(shard, keys, images, pixels):
        with torch.inference_mode():
            mean, std = (x.half().cpu().numpy() for x in parts.encode(_input(arrays)))
        for key, m, s in zip(batch, mean, std, strict=True):
            yield key, {"mean.npy": array_bytes(m), "std.npy": array_bytes(s)}


def tokens_shard(
    shard: int, keys: Sequence[str], *, images: Location, backbone: Mapping[str, Any], bits: int = 16
) -> Iterator[tuple[str, Sample]]:
    """CLIP tokens [1 + n, D] of an image column (`color` or `reference`); row 0 is CLS. bits: see `encode_tokens`."""
    parts = _loaded(backbone)
    for batch, arrays in _batches(shard, keys, images):
        with torch.inference_mode():
            tokens = parts.tokens(_input(arrays)).half().cpu().numpy()
        yield from ((key, encode_tokens(row, bits)) for key, row in zip(batch, tokens, strict=True))


def _loaded(options: Mapping[str, Any]) -> Backbone:
    """The backbone on this process's device, read once."""
    return _load(json.dumps(options, default=str, sort_keys=True))


@functools.lru_cache(maxsize=1)
def _load(options: str) -> Backbone:
    return load_backbone(json.loads(options)).to(_device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _batches(
    shard: int, keys: Sequence[str], images: Location, pixels: int | None = None
) -> Iterator[tuple[list[str], list[np.ndarray]]]:
    """Keys and images uint8 [H, W, 3] of consecutive rows of one size, cut to their buckets of so many `pixels`."""
    column = Column(images)
    buckets = bucket_sizes(pixels) if pixels else []
    bucket_of = nearest(row_sizes(images)[column.rows(shard)], buckets) if pixels else np.empty(0)
    batch: list[str] = []
    arrays: list[np.ndarray] = []
    for place, (key, row) in enumerate(zip(keys, column.rows(shard), strict=True)):
        image = from_bytes(image_in(column[row]))
        if pixels:
            image = fill(image, buckets[bucket_of[place]])
        if len(batch) == BATCH or (batch and arrays[0].shape != image.shape):
            yield batch, arrays
            batch, arrays = [], []
        batch.append(key)
        arrays.append(image)
    if batch:
        yield batch, arrays


def _input(images: list[np.ndarray]) -> torch.Tensor:
    return to_input(torch.from_numpy(np.stack(images)).to(_device())).contiguous(memory_format=torch.channels_last)
