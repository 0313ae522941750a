"""The training loader: every sample exactly once a pass, in an order that depends on seed and pass alone, restorable mid-epoch."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from src.data.columns import Column, ColumnError, shard_keys
from src.data.images import array_from, from_bytes, image_in


class Table(Dataset[dict[str, Tensor]]):
    """The rows of a split with the columns that are asked for, and no others opened.

    `latent` gives mean and std [C, h, w], `tokens` or `tokens_deform` [1 + n, D], `sketch` and `color` uint8 images, `key` the key.
    """

    def __init__(self, root: Path, columns: Sequence[str]) -> None:
        self.columns = {name: Column(root / name) for name in columns}
        first, *others = self.columns.values()
        for other in others:
            if shard_keys(other.index) != shard_keys(first.index):
                raise ColumnError(f"{other.directory} and {first.directory} hold different rows. Run `dvc repro`.")
        self.keys = first.keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> dict[str, Any]:
        sample: dict[str, Any] = {"key": self.keys[row]}
        for name, column in self.columns.items():
            sample |= _decode(name, column[row])
        return sample

    def collate(self, rows: Sequence[int]) -> dict[str, Any]:
        return torch.utils.data.default_collate([self[row] for row in rows])


def _decode(column: str, sample: Mapping[str, bytes]) -> dict[str, Tensor]:
    if column == "latent":
        return {"mean": _tensor(sample["mean.npy"]).float(), "std": _tensor(sample["std.npy"]).float()}
    if column.startswith("tokens"):
        return {"tokens": _tensor(sample["npy"]).float()}
    return {column: torch.from_numpy(from_bytes(image_in(sample), "L" if column == "sketch" else "RGB").copy())}


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(array_from(data))


@functools.lru_cache(maxsize=2)
def _order(passing: int, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng((seed, passing)).permutation(count)


class EpochLoader:
    """Batches of an epoch of `samples` rows; consecutive epochs walk on through shuffled passes over the whole table.

    Each rank takes every `world`-th row of a batch of `batch * world`. `state_dict` is the number of batches given out.
    """

    def __init__(
        self, table: Table, batch: int, samples: int, seed: int, *, workers: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.table, self.batch, self.seed, self.workers = table, batch, seed, workers
        self.rank, self.world = rank, world
        self.per_epoch = max(1, samples // (batch * world))
        self.given = 0

    def __len__(self) -> int:
        return self.per_epoch

    def rows(self, index: int) -> list[int]:
        """The rows of batch `index`, counted from the start of training."""
        first = index * self.batch * self.world
        places = range(first + self.rank, first + self.batch * self.world, self.world)
        orders = {place // len(self.table) for place in places}
        shuffled = {p: _order(p, len(self.table), self.seed) for p in orders}
        return [int(shuffled[place // len(self.table)][place % len(self.table)]) for place in places]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        end = (self.given // self.per_epoch + 1) * self.per_epoch
        plan = [self.rows(index) for index in range(self.given, end)]
        for batch in DataLoader(self.table, batch_sampler=plan, num_workers=self.workers):
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]
