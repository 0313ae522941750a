"""The rows of a data set: what a source has, less what filters remove, on its side of the split, in a fixed order.

Rows are ordered by the hashes of their keys, so that the first so many are a fair sample and no row depends on the order of
files. They lie in one file, of which a worker reads its shard's part: millions of rows are never in memory.
"""

import hashlib
import json
import os
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np

from src.data.columns import ColumnError, Unusable
from src.data.sources import Item, Removed, Row

SPLITS = ("train", "val")


def split_of(group: str, val_share: float) -> str:
    """`val` or `train`, by a hash of what is drawn: one drawing never changes sides, whatever else is chosen."""
    point = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big") / 2**64
    return "val" if point < val_share else "train"


def _rank(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


class Survey(NamedTuple):
    """How many rows a source has, how many each filter removes, in the order of the filters, and how many remain in each split."""

    read: int
    removed: dict[str, int]
    rows: dict[str, int]

    def table(self) -> str:
        lines = {"read": self.read} | {f"- {by}": -n for by, n in self.removed.items()} | self.rows
        return "\n".join(f"{name:<40}{n:>12,}" for name, n in lines.items())


def survey(items: Iterable[Item], filters: Sequence[str], val_share: float, limits: Mapping[str, int | None]) -> Survey:
    """What write_rows would keep. filters: the names of the source's, in their order; limits: the most rows of each split."""
    removed = Counter[str](dict.fromkeys([*filters, "cannot be used"], 0))
    ranks = {split: array("Q") for split in SPLITS}
    read = 0
    for item in items:
        read += 1
        if isinstance(item, Removed):
            removed[item.by] += 1
        elif isinstance(item, Unusable):
            removed["cannot be used"] += 1
        else:
            ranks[split_of(item.group, val_share)].append(_rank(item.key))
    distinct = {split: len(np.unique(np.asarray(ranks[split]))) for split in SPLITS}
    rows = {split: min(n, n if (limit := limits[split]) is None else limit) for split, n in distinct.items()}
    removed["a row of the same key is there"] = sum(map(len, ranks.values())) - sum(distinct.values())
    removed["beyond the scale's number of drawings"] = sum(distinct.values()) - sum(rows.values())
    return Survey(read, dict(removed), rows)


class Rows(NamedTuple):
    """keys: of each shard; file: where the rows are; starts: each shard's first byte there; sha256: of the file."""

    keys: list[list[str]]
    file: Path
    starts: list[int]
    sha256: str


def read_rows(file: Path, start: int, keys: Sequence[str]) -> Iterator[Row | Unusable]:
    """The rows from a byte on, whose keys are `keys`. ColumnError if the file holds others."""
    with file.open("rb") as f:
        f.seek(start)
        for key in keys:
            values = json.loads(f.readline() or b"{}")
            if values.get("key") != key:
                raise ColumnError(f"{file} holds other rows. Run the stage again.")
            yield Unusable(**values) if "reason" in values else Row(**values)


def write_rows(
    items: Iterable[Item], split: str, directory: Path, *, val_share: float, limit: int | None, rows_per_shard: int
) -> Rows:
    """Writes the rows of a split into a file in `directory`: the first `limit` (None = all) that can be used, and those between.

    Of rows with the same key one stays, whatever their order. ColumnError if no row remains. `forget_rows` removes the file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ranks, ends = array("Q"), array("Q", [0])
    keys, usable = list[str](), bytearray()
    with tempfile.TemporaryFile(dir=directory) as spool:
        for item in items:
            if not isinstance(item, Removed):
                group = item.group if isinstance(item, Row) else item.key
                if split_of(group, val_share) == split:
                    keys.append(item.key)
                    ranks.append(_rank(item.key))
                    values = {f.name: getattr(item, f.name) for f in fields(item)}
                    ends.append(ends[-1] + spool.write(json.dumps(values).encode() + b"\n"))
                    usable.append(isinstance(item, Row))

        def line(i: int) -> bytes:
            return os.pread(spool.fileno(), ends[i + 1] - ends[i], ends[i])

        spool.flush()
        order = _first(_distinct(np.asarray(ranks), line), np.frombuffer(usable, bool), limit)
        if not len(order):
            raise ColumnError(f"No row remains in {directory}. `--dry-run` says what removes them.")
        shards: list[list[str]] = []
        starts: list[int] = []
        digest, written = hashlib.sha256(), 0
        temporary = directory / f".rows-{os.getpid()}.tmp"
        with temporary.open("wb") as f:
            for place, i in enumerate(order.tolist()):
                data = line(i)
                if place % rows_per_shard == 0:
                    shards.append([])
                    starts.append(written)
                shards[-1].append(keys[i])
                digest.update(data)
                written += f.write(data)
    file = directory / f".rows-{digest.hexdigest()[:12]}.jsonl"
    os.replace(temporary, file)
    return Rows(shards, file, starts, digest.hexdigest())


def forget_rows(directory: Path) -> None:
    """Removes what write_rows left, also where it was killed."""
    for file in directory.glob(".rows-*"):
        file.unlink(missing_ok=True)


def _distinct(ranks: np.ndarray, line: Callable[[int], bytes]) -> np.ndarray:
    """The rows by rank; of those with one key (or, once in millions of millions, one rank) the one whose line is smallest."""
    order = np.argsort(ranks, kind="stable")
    _, starts, counts = np.unique(ranks[order], return_index=True, return_counts=True)
    for start, count in zip(starts[counts > 1], counts[counts > 1], strict=True):
        order[start] = min(order[start : start + count].tolist(), key=line)
    return order[starts]


def _first(order: np.ndarray, usable: np.ndarray, limit: int | None) -> np.ndarray:
    """Up to the row with which `limit` can be used."""
    return order if limit is None else order[: np.searchsorted(np.cumsum(usable[order]), limit) + 1]
