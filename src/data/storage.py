"""Where columns lie: a local folder, or any fsspec URL (`s3://bucket/set`, `gs://...`, `memory://...`). Files appear whole.

Locally a file is written beside its place, synced and renamed. Elsewhere it is written to a local temporary file and uploaded as
one object, which object stores show when it is complete.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from src.files import UserError, file_sha256, write_atomically

Writer = Callable[[IO[bytes]], object]
LOCK = ".lock"


@dataclass(frozen=True)
class LocalFolder:
    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "LocalFolder":
        return LocalFolder(self.path / name)

    def files(self) -> dict[str, int]:
        """Name and size of every file in the folder; none where there is no folder."""
        if not self.path.is_dir():
            return {}
        return {entry.name: entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file()}

    def folders(self) -> list[str]:
        return sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir()) if self.path.is_dir() else []

    def read(self, names: Iterable[str]) -> list[bytes]:
        return [(self.path / name).read_bytes() for name in names]

    def write(self, name: str, write: Writer) -> tuple[int, str]:
        """Size and sha256 of the file."""
        path = self.path / name
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
        return path.stat().st_size, file_sha256(path)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def sha256(self, name: str) -> str:
        return file_sha256(self.path / name)

    def open(self, name: str, size: int, sha256: str) -> int:
        """A descriptor to read a shard with `os.pread`."""
        return os.open(self.path / name, os.O_RDONLY)

    @contextlib.contextmanager
    def locked(self, patience: float = 1.0) -> Iterator[None]:
        """Keeps other builds out. The system gives the lock back when the process and its workers are gone, however they went.

        patience: seconds to wait for workers whose build was killed a moment ago.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        path, deadline = self.path / LOCK, time.monotonic() + patience
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                _flock(handle)
                if os.fstat(handle).st_ino == path.stat().st_ino:  # else its holder has just finished and removed it
                    break
            os.close(handle)
            if time.monotonic() > deadline:
                raise UserError(f"Another process is building {self}. Wait for it, or stop it, and run this again.")
            time.sleep(0.05)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)


def _flock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}:  # file systems without locks, as Lustre often is
            raise


@dataclass(frozen=True)
class RemoteFolder:
    """A folder of an object store. There are no locks there: builds of different configurations stop one another (`columns.py`)."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url.rstrip('/')}/{name}")

    def _store(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            store, path = url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.url} cannot be reached ({error}).") from None
        return store, path.rstrip("/")

    def _list(self, kind: str) -> dict[str, int]:
        store, path = self._store()
        store.invalidate_cache(path)
        try:
            entries = store.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rstrip("/").rpartition("/")[2]: entry["size"] for entry in entries if entry["type"] == kind}

    def files(self) -> dict[str, int]:
        return self._list("file")

    def folders(self) -> list[str]:
        return sorted(self._list("directory"))

    def read(self, names: Iterable[str]) -> list[bytes]:
        store, path = self._store()
        paths = [f"{path}/{name}" for name in names]
        found = store.cat(paths) if paths else {}  # all at once where the store can
        return [found[name] for name in paths]

    def write(self, name: str, write: Writer) -> tuple[int, str]:
        store, path = self._store()
        with tempfile.TemporaryDirectory(prefix="column-") as scratch:
            file = Path(scratch) / name
            with file.open("wb") as f:
                write(f)
            store.makedirs(path, exist_ok=True)
            store.put_file(str(file), f"{path}/{name}")
            return file.stat().st_size, file_sha256(file)

    def remove(self, names: Iterable[str]) -> None:
        store, path = self._store()
        for name in names:
            store.rm_file(f"{path}/{name}")

    def sha256(self, name: str) -> str:
        import hashlib

        store, path = self._store()
        digest = hashlib.sha256()
        with store.open(f"{path}/{name}", "rb") as f:
            while block := f.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def open(self, name: str, size: int, sha256: str) -> int:
        """The same for a shard that is fetched whole, once a machine, into a cache that its processes share."""
        cache = _cache()
        file = cache / f"{sha256}.tar"
        for _ in range(3):
            with contextlib.suppress(FileNotFoundError):
                handle = os.open(file, os.O_RDONLY)
                os.utime(file)  # `_make_room` removes what was not used for longest
                return handle
            with (cache / f".{sha256[0]}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not file.exists():
                    _make_room(cache, size)
                    write_atomically(file, lambda f: self._fetch(name, f, sha256))
        raise UserError(f"{cache} is too small for the shards that are read at a time; name a larger disk in COLORIZE_CACHE.")

    def _fetch(self, name: str, f: IO[bytes], sha256: str) -> None:
        store, path = self._store()
        store.get_file(f"{path}/{name}", f.name)
        if file_sha256(Path(f.name)) != sha256:
            raise UserError(f"Shard {self}/{name} differs from its index.json. Remove its folder and build it again.")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        yield


def _cache() -> Path:
    given = os.environ.get("COLORIZE_CACHE")
    cache = Path(given) if given else Path(tempfile.gettempdir()) / f"colorize-{os.getuid()}"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise UserError(f"{cache} belongs to another user; name a folder of yours in COLORIZE_CACHE.")
    return cache


def _make_room(cache: Path, size: int) -> None:
    """Removes the shards that were not used for longest until `size` more bytes fill at most half of what the disk has for them."""
    with contextlib.suppress(FileNotFoundError):  # another process is making room
        files = sorted((entry.stat().st_mtime, entry.stat().st_size, entry.path) for entry in os.scandir(cache))
        used = sum(length for _, length, _ in files)
        room = (shutil.disk_usage(cache).free + used) // 2
        for _, length, path in files:
            if used + size <= room:
                break
            if path.endswith(".tar"):
                os.unlink(path)
                used -= length


Folder = LocalFolder | RemoteFolder
Location = str | os.PathLike[str] | LocalFolder | RemoteFolder


def folder(location: Location) -> Folder:
    """A path, a URL or a folder as a folder."""
    if isinstance(location, LocalFolder | RemoteFolder):
        return location
    text = os.fspath(location)
    if text.startswith(("file://", "local://")):
        return LocalFolder(Path(text.partition("://")[2]))
    return RemoteFolder(text) if "://" in text else LocalFolder(Path(text))
