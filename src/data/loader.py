"""The training loader: every sample exactly once a pass, in an order that depends on seed and pass alone, restorable mid-epoch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from src.data.buckets import Size, fill, nearest
from src.data.columns import Column, ColumnError, row_sizes, shard_keys
from src.data.images import array_from, from_bytes, image_in
from src.data.order import Batches
from src.data.storage import Location, folder
from src.data.tokens import decode_tokens


class Table(Dataset[dict[str, Any]]):
    """The rows of a split with the columns that are asked for, and no others opened.

    `latent` gives mean and std [C, h, w], `tokens` or `tokens_deform` [1 + n, D], `sketch` and `color` uint8 images, `key` the key,
    `meta` what the column color says of a drawing in words: its caption, and whether it shows a person.
    """

    def __init__(self, root: Location, columns: Sequence[str], buckets: Sequence[Size] = ()) -> None:
        """buckets: sizes, to the nearest of which each row's images are cut; none = they are all of one size."""
        split = folder(root)
        self.columns = {name: Column(split / ("color" if name == "meta" else name)) for name in columns}
        first, *others = self.columns.values()
        for other in others:
            if shard_keys(other.index) != shard_keys(first.index):
                raise ColumnError(f"{other.place} and {first.place} hold different rows. Run `dvc repro`.")
        self.keys = first.keys
        self.counts = [len(keys) for keys in shard_keys(first.index)]
        self.buckets = buckets
        self.bucket_of = np.zeros(len(self), np.uint8)
        if len(buckets) > 1:
            self.bucket_of = nearest(row_sizes(split / "color"), buckets)
            if len(self.bucket_of) != len(self):
                raise ColumnError(f"{first.place} and {split / 'color'} hold different rows. Run `dvc repro`.")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> dict[str, Any]:
        sample: dict[str, Any] = {"key": self.keys[row]}
        size = self.buckets[self.bucket_of[row]] if self.buckets else None
        for name, column in self.columns.items():
            sample |= _decode(name, column[row], size)
        if size and "mean" in sample and not _fits(sample["mean"].shape[1:], size):
            raise ColumnError(f"{self.columns['latent'].place} was made without buckets: run its stage with scale.buckets=true.")
        return sample

    def collate(self, rows: Sequence[int]) -> dict[str, Any]:
        return torch.utils.data.default_collate([self[row] for row in rows])


def _fits(latent: Sequence[int], size: Size) -> bool:
    """Whether latents of (height, width) are those of an image of `size`, a whole number of times larger."""
    return size[0] * latent[1] == size[1] * latent[0] and size[0] % latent[0] == 0


def _decode(column: str, sample: Mapping[str, bytes], size: tuple[int, int] | None) -> dict[str, Any]:
    if column == "latent":
        return {"mean": _tensor(sample["mean.npy"]).float(), "std": _tensor(sample["std.npy"]).float()}
    if column.startswith("tokens"):
        return {"tokens": torch.from_numpy(decode_tokens(sample))}
    if column == "meta":
        meta = json.loads(sample["json"])
        return {"caption": meta.get("caption", ""), "person": meta.get("person", False)}
    image = from_bytes(image_in(sample), "L" if column == "sketch" else "RGB")
    return {column: torch.from_numpy((fill(image, size) if size else image).copy())}


def _tensor(data: bytes) -> Tensor:
    return torch.from_numpy(array_from(data))


class EpochLoader:
    """Batches of an epoch of `samples` rows; consecutive epochs walk on through shuffled passes over the whole table.

    Each rank takes every `world`-th row of a batch of `batch * world`, which is of one size. `state_dict` is the number of batches
    given out. Neither the batches nor the state depend on `workers`.
    """

    def __init__(
        self,
        table: Table,
        batch: int,
        samples: int,
        seed: int,
        *,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        order: str = "rows",
    ) -> None:
        self.table, self.workers = table, workers
        self.rank, self.world = rank, world
        self.batches = Batches(table.counts, batch * world, seed, order, table.bucket_of)
        self.per_epoch = max(1, samples // (batch * world))
        self.given = 0

    def __len__(self) -> int:
        return self.per_epoch

    def rows(self, index: int) -> list[int]:
        """This rank's rows of batch `index`, counted from the start of training."""
        return self.batches.rows(index)[self.rank :: self.world].tolist()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        end = (self.given // self.per_epoch + 1) * self.per_epoch
        plan: Any = map(self.rows, range(self.given, end))
        for batch in DataLoader(self.table, batch_sampler=plan, num_workers=self.workers):
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.given = state["given"]
