"""Files that appear whole or not at all, and the hashes that say what is in them."""

import functools
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class UserError(RuntimeError):
    """Something that the user can mend. The message is one sentence: what is wrong, where, and what to do."""


class Stopped(UserError):
    """The run was asked to stop, and left a checkpoint."""


def file_name(name: str) -> str:
    """A model's or method's name, which files are called by. UserError for one that leads elsewhere."""
    if os.path.basename(name) != name or name.startswith("."):
        raise UserError(f"The name {name!r} is none that a file can have. Give another one.")
    return name


def config_hash(config: Any) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """The sha256 of a file; a process reads a file of the same size and time once."""
    status = path.stat()
    return _sha256(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_atomically(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """Calls `write` on a temporary file beside `path`, syncs it and renames it: `path` is whole or absent, also on a full disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a failed write does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def json_bytes(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, lambda f: f.write(json_bytes(value)))
