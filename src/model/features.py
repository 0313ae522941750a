"""Cached features as columns: VAE latents (mean and standard deviation) and CLIP tokens, both in half precision."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from src.backbone.parts import Backbone, to_input
from src.data.columns import Column, Sample
from src.data.images import array_bytes, from_bytes, image_in

BATCH = 64


def latent_shard(shard: int, keys: Sequence[str], *, images: Path, backbone: Backbone) -> Iterator[tuple[str, Sample]]:
    """Latents of a colour column, each [C, h, w]: the mean and std, so that training can still sample."""
    for batch, tensor in _batches(shard, keys, images):
        mean, std = (x.half().numpy() for x in backbone.encode(tensor))
        for key, m, s in zip(batch, mean, std, strict=True):
            yield key, {"mean.npy": array_bytes(m), "std.npy": array_bytes(s)}


def tokens_shard(shard: int, keys: Sequence[str], *, images: Path, backbone: Backbone) -> Iterator[tuple[str, Sample]]:
    """CLIP tokens [1 + n, D] of an image column (`color` or `reference`); row 0 is CLS."""
    for batch, tensor in _batches(shard, keys, images):
        for key, tokens in zip(batch, backbone.tokens(tensor).half().numpy(), strict=True):
            yield key, {"npy": array_bytes(tokens)}


def _batches(shard: int, keys: Sequence[str], images: Path) -> Iterator[tuple[Sequence[str], torch.Tensor]]:
    column = Column(images)
    rows = column.rows(shard)
    for start in range(0, len(keys), BATCH):
        arrays = [from_bytes(image_in(column[row])) for row in rows[start : start + BATCH]]
        with torch.inference_mode():
            tensor = to_input(torch.from_numpy(np.stack(arrays))).contiguous(memory_format=torch.channels_last)
            yield keys[start : start + BATCH], tensor
