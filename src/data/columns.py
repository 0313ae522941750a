"""A split is a table: rows are samples, columns are families of WebDataset shards with the same keys in the same order.

A column directory holds `00000.tar ...` and `index.json`: keys, sizes and sha256 of each shard, and the hash of the
configuration that made it. Shards appear whole or not at all; an interrupted build continues where it stopped.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.files import UserError, config_hash, file_sha256, write_atomically, write_json

Sample = dict[str, bytes]  # extension -> bytes


class ColumnError(UserError):
    """A column that is missing, broken or made for other rows. The message says which, where, and what to do."""


@dataclass(frozen=True)
class Unusable:
    """A row that cannot be used, and why: written to `quarantine.jsonl` instead of a shard."""

    key: str
    reason: str


MakeShard = Callable[[int, Sequence[str]], Iterable[tuple[str, Sample] | Unusable]]


def build_column(
    directory: Path,
    shards: Sequence[Sequence[str]],
    make: MakeShard,
    config: Mapping[str, Any],
    *,
    workers: int = 1,
    max_quarantined: float = 0.0,
) -> dict[str, Any]:
    """Writes the column and returns its index. `make(i, keys)` gives the samples of shard i in order.

    Shards of an earlier run are kept if that run had the same configuration, and are all deleted otherwise. The bytes do not
    depend on `workers` or on interruptions. ColumnError if more than the share `max_quarantined` of the rows is unusable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wanted = config_hash(config)
    marker = directory / ".config"
    if not marker.exists() or marker.read_text() != wanted:
        for entry in directory.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        write_atomically(marker, lambda f: f.write(wanted.encode()))
    for name in (p.name for p in directory.glob("*.tar")):
        if int(name[:5]) >= len(shards):
            (directory / name).unlink()
    missing = [i for i in range(len(shards)) if not _sidecar(directory, i).exists()]
    jobs = [(directory, i, list(shards[i]), make) for i in missing]
    if workers > 1 and len(jobs) > 1:
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(_write_shard, *zip(*jobs, strict=True)))
    else:
        for job in jobs:
            _write_shard(*job)
    parts = [json.loads(_sidecar(directory, i).read_text()) for i in range(len(shards))]
    quarantine = [entry for part in parts for entry in part.pop("quarantine")]
    total = sum(map(len, shards))
    if quarantine:
        lines = "".join(json.dumps(entry) + "\n" for entry in quarantine)
        write_atomically(directory / "quarantine.jsonl", lambda f: f.write(lines.encode()))
        print(f"{directory}: {len(quarantine)} of {total} rows cannot be used, see {directory / 'quarantine.jsonl'}")
    if len(quarantine) > max_quarantined * total:
        reasons = "; ".join(f"{e['key']}: {e['reason']}" for e in quarantine[:5])
        raise ColumnError(f"{directory}: {len(quarantine)} of {total} rows cannot be used ({reasons}).")
    index = {
        "config": wanted,
        "count": sum(len(part["keys"]) for part in parts),
        "quarantined": len(quarantine),
        "shards": parts,
    }
    write_json(directory / "index.json", index)
    return index


def _sidecar(directory: Path, i: int) -> Path:
    return directory / f".{i:05d}.json"


def _write_shard(directory: Path, i: int, keys: Sequence[str], make: MakeShard) -> None:
    from webdataset import TarWriter

    written: list[str] = []
    quarantine: list[dict[str, str]] = []
    path = directory / f"{i:05d}.tar"

    def write(f: io.BufferedWriter) -> None:
        with TarWriter(f, mtime=0, user="", group="", mode=0o644, encoder=False) as tar:
            for row in make(i, keys):
                if isinstance(row, Unusable):
                    quarantine.append({"key": row.key, "reason": row.reason})
                    continue
                key, sample = row
                tar.write({"__key__": key, **sample})
                written.append(key)

    write_atomically(path, write)
    size, sha256 = path.stat().st_size, file_sha256(path)
    part = {"name": path.name, "size": size, "sha256": sha256, "keys": written, "quarantine": quarantine}
    write_json(_sidecar(directory, i), part)


def read_index(directory: Path) -> dict[str, Any]:
    path = directory / "index.json"
    if not path.exists():
        raise ColumnError(f"{directory} is no column (no index.json). Make it with `dvc repro`, or correct the data folder.")
    return json.loads(path.read_text())


def contents(index: Mapping[str, Any]) -> str:
    """The hash of a column's bytes, whatever made them."""
    return config_hash([shard["sha256"] for shard in index["shards"]])


def shard_keys(index: Mapping[str, Any]) -> list[list[str]]:
    return [shard["keys"] for shard in index["shards"]]


class Column:
    """Random access to the rows of a column: one scan of the tar headers, then one read a member. Any process may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.index = read_index(self.directory)
        self.keys = [key for keys in shard_keys(self.index) for key in keys]
        self._members: list[tuple[int, dict[str, tuple[int, int]]]] = []
        self._files: dict[int, tuple[int, int]] = {}
        for i, shard in enumerate(self.index["shards"]):
            self._members += [(i, members) for members in self._scan(shard)]

    def _path(self, shard: int) -> Path:
        return self.directory / self.index["shards"][shard]["name"]

    def _scan(self, shard: Mapping[str, Any]) -> list[dict[str, tuple[int, int]]]:
        path = self.directory / shard["name"]
        found: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    key, _, extension = member.name.partition(".")
                    found.setdefault(key, {})[extension] = (member.offset_data, member.size)
        except (OSError, tarfile.TarError) as error:
            raise ColumnError(f"Shard {path} cannot be read ({error}). Delete its folder and run the stage again.") from error
        if list(found) != shard["keys"] or path.stat().st_size != shard["size"]:
            raise ColumnError(f"Shard {path} does not hold what its index.json says. Delete its folder and run the stage again.")
        return list(found.values())

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> Sample:
        shard, members = self._members[row]
        handle = self._open(shard)
        return {extension: os.pread(handle, size, offset) for extension, (offset, size) in members.items()}

    def _open(self, shard: int) -> int:
        pid, handle = self._files.get(shard, (0, -1))
        if pid != os.getpid():
            handle = os.open(self._path(shard), os.O_RDONLY)
            self._files[shard] = (os.getpid(), handle)
        return handle

    def __iter__(self) -> Iterator[tuple[str, Sample]]:
        return ((key, self[row]) for row, key in enumerate(self.keys))

    def rows(self, shard: int) -> range:
        """The rows that a shard holds."""
        start = sum(len(s["keys"]) for s in self.index["shards"][:shard])
        return range(start, start + len(self.index["shards"][shard]["keys"]))


def verify(directory: Path, like: Path | None = None) -> int:
    """Checks every shard's bytes against the index, and the rows against those of the column `like`. Returns the row count.

    ColumnError names the first bad shard.
    """
    index = read_index(directory)
    for shard in index["shards"]:
        path = directory / shard["name"]
        if not path.exists() or path.stat().st_size != shard["size"] or file_sha256(path) != shard["sha256"]:
            raise ColumnError(f"Shard {path} differs from its index.json. Delete its folder and run the stage again.")
    if like is not None and shard_keys(index) != shard_keys(read_index(like)):
        raise ColumnError(f"The rows of {directory} are not those of {like}. Run the stage that makes it again.")
    return index["count"]
