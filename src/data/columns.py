"""A split is a table: rows are samples, columns are families of WebDataset shards with the same keys in the same order.

A column directory holds `00000.tar ...` and `index.json`: keys, sizes and sha256 of each shard, and the hash of the
configuration that made it. Shards appear whole or not at all; an interrupted build continues where it stopped. A directory is a
local path or an fsspec URL.
"""

import bisect
import io
import itertools
import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np

from src.data.engines import Engine, run
from src.data.storage import LOCK, Folder, Location, folder
from src.files import UserError, config_hash, json_bytes

Sample = dict[str, bytes]  # extension -> bytes


class ColumnError(UserError):
    """A column that is missing, broken or made for other rows. The message says which, where, and what to do."""


@dataclass(frozen=True)
class Unusable:
    """A row that cannot be used, and why: written to `quarantine.jsonl` instead of a shard."""

    key: str
    reason: str


MakeShard = Callable[[int, Sequence[str]], Iterable[tuple[str, Sample] | Unusable]]
CONFIG = ".config"


def build_column(
    directory: Location,
    shards: Sequence[Sequence[str]],
    make: MakeShard,
    config: Mapping[str, Any],
    *,
    workers: int | None = 1,
    engine: Engine | None = None,
    max_quarantined: float = 0.0,
) -> dict[str, Any]:
    """Writes the column and returns its index. `make(i, keys)` gives the samples of shard i in order.

    Shards of an earlier run are kept if that run had the same configuration, and are all deleted otherwise. The bytes do not
    depend on the engine, the workers or interruptions. ColumnError if more than the share `max_quarantined` of the rows is
    unusable; UserError if another process is building the column.
    """
    place = folder(directory)
    with place.locked():
        return _build(place, shards, make, config_hash(config), engine or Engine(workers=workers), max_quarantined)


def _build(
    place: Folder, shards: Sequence[Sequence[str]], make: MakeShard, wanted: str, engine: Engine, max_quarantined: float
) -> dict[str, Any]:
    kept = place.files()
    if CONFIG not in kept or place.read([CONFIG]) != [wanted.encode()]:
        place.remove(name for name in kept if name != LOCK)
        kept = {}
        place.write(CONFIG, lambda f: f.write(wanted.encode()))
    numbers = range(len(shards))
    ours = {CONFIG, LOCK, "index.json", "quarantine.jsonl", *map(_tar, numbers), *map(_sidecar, numbers)}
    place.remove(name for name in kept if name not in ours)  # temporary files of killed processes, shards beyond the last
    jobs = [(i, list(shards[i])) for i in numbers if not {_tar(i), _sidecar(i)} <= kept.keys()]
    for _ in run(partial(_write_shard, place, wanted, make), jobs, engine):
        pass
    try:
        parts = [json.loads(text) for text in place.read(map(_sidecar, numbers))]
    except FileNotFoundError:
        raise ColumnError(
            f"{place} lacks shards that have just been written: machines of a cluster must share it, or it must be a URL."
        ) from None
    quarantine = [entry for part in parts for entry in part.pop("quarantine")]
    total = sum(map(len, shards))
    if quarantine:
        lines = "".join(json.dumps(entry) + "\n" for entry in quarantine)
        place.write("quarantine.jsonl", lambda f: f.write(lines.encode()))
        print(f"{place}: {len(quarantine)} of {total} rows cannot be used, see {place}/quarantine.jsonl")
    if len(quarantine) > max_quarantined * total:
        reasons = "; ".join(f"{e['key']}: {e['reason']}" for e in quarantine[:5])
        raise ColumnError(f"{place}: {len(quarantine)} of {total} rows cannot be used ({reasons}).")
    index = {
        "config": wanted,
        "count": sum(len(part["keys"]) for part in parts),
        "quarantined": len(quarantine),
        "shards": parts,
    }
    place.write("index.json", lambda f: f.write(json_bytes(index)))
    return index


def _tar(i: int) -> str:
    return f"{i:05d}.tar"


def _sidecar(i: int) -> str:
    """Written after its shard: what has one is finished."""
    return f".{i:05d}.json"


def _write_shard(place: Folder, wanted: str, make: MakeShard, i: int, keys: Sequence[str]) -> None:
    written: list[str] = []
    quarantine: list[dict[str, str]] = []
    sizes: list[list[int]] = []

    def write(f: IO[bytes]) -> None:
        with tarfile.open(fileobj=f, mode="w|") as tar:
            for row in make(i, keys):
                if isinstance(row, Unusable):
                    quarantine.append({"key": row.key, "reason": row.reason})
                    continue
                key, sample = row
                for extension in sorted(sample):
                    member = tarfile.TarInfo(f"{key}.{extension}")  # of no time and no user
                    member.size = len(sample[extension])
                    tar.addfile(member, io.BytesIO(sample[extension]))
                written.append(key)
                meta = json.loads(sample.get("json", b"{}"))
                if "width" in meta and "height" in meta:
                    sizes.append([meta["height"], meta["width"]])
        if place.read([CONFIG]) != [wanted.encode()]:  # where no lock keeps builds apart
            raise ColumnError(f"{place} was taken over by a build with another configuration, which goes on.")

    size, sha256 = place.write(_tar(i), write)
    part = {"name": _tar(i), "size": size, "sha256": sha256, "keys": written, "quarantine": quarantine}
    if sizes and len(sizes) == len(written):
        part["sizes"] = sizes  # training in buckets asks for all of them at once
    place.write(_sidecar(i), lambda f: f.write(json_bytes(part)))


def read_index(directory: Location) -> dict[str, Any]:
    place = folder(directory)
    try:
        (text,) = place.read(["index.json"])
    except FileNotFoundError:
        raise ColumnError(f"{place} is no column (no index.json). Make it with `dvc repro`, or correct the data folder.") from None
    return json.loads(text)


def contents(index: Mapping[str, Any]) -> str:
    """The hash of a column's bytes, whatever made them."""
    return config_hash([shard["sha256"] for shard in index["shards"]])


def shard_keys(index: Mapping[str, Any]) -> list[list[str]]:
    return [shard["keys"] for shard in index["shards"]]


MOST_OPEN = 64  # shards of a column that a process holds open: systems often allow 1024 files in all
# A row's members: extension, where its bytes begin, how many they are.
Members = list[tuple[str, int, int]]


def row_sizes(directory: Location) -> np.ndarray:
    """(height, width) of every row's drawing, as it was before it was resized: int [N, 2]."""
    sizes = [size for shard in read_index(directory)["shards"] for size in shard.get("sizes", [None])]
    if None in sizes:
        raise ColumnError(f"{folder(directory)} does not know the sizes of its drawings, which scale.buckets=true asks for.")
    return np.array(sizes)


class Column:
    """Random access to the rows of a column: a scan of a shard's headers when it is first used, then one read a member."""

    def __init__(self, directory: Location) -> None:
        self.place = folder(directory)
        self.index = read_index(self.place)
        self.keys = [key for keys in shard_keys(self.index) for key in keys]
        self._ends = list(itertools.accumulate(len(keys) for keys in shard_keys(self.index)))
        self._members: dict[int, _Members] = {}
        self._open: OrderedDict[int, int] = OrderedDict()
        found = self.place.files()
        for shard in self.index["shards"]:
            if found.get(shard["name"]) != shard["size"]:
                raise self._broken(shard["name"], f"{found.get(shard['name'], 'no')} bytes")

    def _broken(self, name: str, what: str) -> ColumnError:
        return ColumnError(f"Shard {self.place}/{name} does not hold what its index.json says ({what}). {REPAIR}")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> Sample:
        if not 0 <= row < len(self):
            raise IndexError(row)
        shard = bisect.bisect_right(self._ends, row)
        handle = self._handle(shard)
        if shard not in self._members:
            self._members[shard] = self._scan(shard, handle)
        members = self._members[shard].row(row - self.rows(shard).start)
        return {extension: os.pread(handle, size, offset) for extension, offset, size in members}

    def __iter__(self) -> Iterator[tuple[str, Sample]]:
        return ((key, self[row]) for row, key in enumerate(self.keys))

    def rows(self, shard: int) -> range:
        """The rows that a shard holds."""
        return range(self._ends[shard - 1] if shard else 0, self._ends[shard])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}  # a descriptor means nothing in another process, unless it is a fork

    def _handle(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
            return self._open[shard]
        if len(self._open) >= MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        entry = self.index["shards"][shard]
        handle = self._open[shard] = self.place.open(entry["name"], entry["size"], entry["sha256"])
        return handle

    def _scan(self, shard: int, handle: int) -> "_Members":
        entry = self.index["shards"][shard]
        found: dict[str, Members] = {}
        try:
            for name, offset, size in _files(handle):
                key, _, extension = name.partition(".")
                found.setdefault(key, []).append((extension, offset, size))
        except (OSError, tarfile.TarError) as error:
            raise self._broken(entry["name"], str(error)) from error
        if list(found) != entry["keys"]:
            raise self._broken(entry["name"], "other keys")
        return _Members(list(found.values()))


def _files(handle: int) -> list[tuple[str, int, int]]:
    """Name, offset and size of every file in a tar archive. Plain headers are read here, 12 times faster than by tarfile."""
    found, at = [], 0
    while (header := os.pread(handle, 512, at)) and header[0]:
        try:
            name, size = header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8)
        except ValueError:
            return _files_by_tarfile(handle)
        if header[156:157] != b"0" or header[345]:  # long or other names take more than one header or field
            return _files_by_tarfile(handle)
        found.append((name, at + 512, size))
        at += 512 + (size + 511) // 512 * 512
    return found


def _files_by_tarfile(handle: int) -> list[tuple[str, int, int]]:
    with open(f"/dev/fd/{handle}", "rb") as f, tarfile.open(fileobj=f, mode="r:") as tar:
        return [(member.name, member.offset_data, member.size) for member in tar if member.isfile()]


class _Members:
    """The members of a shard's rows in little memory: a set may have millions."""

    def __init__(self, rows: Sequence[Members]) -> None:
        flat = [member for row in rows for member in row]
        self.extensions = sorted({extension for extension, _, _ in flat})
        number = {extension: i for i, extension in enumerate(self.extensions)}
        self.ends = np.cumsum([len(row) for row in rows], dtype=np.int32)
        self.which = np.array([number[extension] for extension, _, _ in flat], np.uint8)
        self.places = np.array([(offset, size) for _, offset, size in flat], np.int64).reshape(-1, 2)

    def row(self, row: int) -> Members:
        part = slice(self.ends[row - 1] if row else 0, self.ends[row])
        places = self.places[part].tolist()
        return [(self.extensions[i], *place) for i, place in zip(self.which[part].tolist(), places, strict=True)]


REPAIR = "Delete its folder and run the stage again."


def verify(directory: Location, like: Location | None = None) -> int:
    """Checks every shard's bytes against the index, and the rows against those of the column `like`. Returns the row count.

    ColumnError names the first bad shard.
    """
    place = folder(directory)
    index, found = read_index(place), place.files()
    for shard in index["shards"]:
        name = shard["name"]
        if name not in found:
            raise ColumnError(f"Shard {place}/{name} is missing. {REPAIR}")
        if found[name] != shard["size"] or place.sha256(name) != shard["sha256"]:
            raise ColumnError(f"Shard {place}/{name} differs from its index.json. {REPAIR}")
    if like is not None:
        for shard, other in itertools.zip_longest(index["shards"], read_index(like)["shards"]):
            if shard is None or other is None or shard["keys"] != other["keys"]:
                name = (shard or other)["name"]
                raise ColumnError(f"The rows of {place}/{name} are not those of {folder(like)}. Run the stage that makes it again.")
    return index["count"]
