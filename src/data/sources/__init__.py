"""Where drawings come from, one module a source.

A source has `rows(options)`, which reads names and metadata, opens no image and decides nothing by chance, and
`load(place, options)`, which a worker calls for the bytes of one image.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from src.data.columns import Unusable
from src.data.images import MAX_BYTES, ImageError
from src.files import UserError

KINDS = ("folder", "danbooru2021", "webdataset")
IMAGES = ("png", "jpg", "jpeg", "webp", "avif", "gif", "bmp", "tif", "tiff", "ppm", "pgm")
MAX_TEXT = 2**20  # bytes of one caption, or of the metadata of one drawing


@dataclass(frozen=True, slots=True)
class Row:
    """A drawing as its source knows it.

    key: its name in every column, unique and the same whatever else the source holds; group: what is drawn, which splits go
    by; place: where the image is, as the source's `load` understands it; caption; meta: what else is known, kept in the sample.
    """

    key: str
    group: str
    place: dict[str, Any]
    caption: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Removed:
    """A drawing that a filter of the configuration leaves out, and which one, in words."""

    by: str


Item = Row | Removed | Unusable


class Loaded(NamedTuple):
    """An encoded image, and the user's own line drawing of it."""

    image: bytes
    line: bytes | None = None


class Source(Protocol):
    FILTERS: Sequence[str]  # what rows may be Removed by, in the order in which it is looked at

    def rows(self, options: Mapping[str, Any]) -> Iterator[Item]: ...

    def load(self, place: Mapping[str, Any], options: Mapping[str, Any]) -> Loaded: ...


def source(kind: str) -> Source:
    if kind not in KINDS:
        raise UserError(f"There is no source {kind!r}. There are: {', '.join(KINDS)}.")
    return importlib.import_module(f"src.data.sources.{kind}")  # type: ignore[return-value]


def key_of(name: bytes) -> str:
    """A key for a file or a member of that name: what is readable of it, and 48 bits of its hash, which make it unique."""
    readable = re.sub(rb"[^A-Za-z0-9]+", b"_", name)[-40:].strip(b"_").decode()
    return f"{readable}-{hashlib.sha256(name).hexdigest()[:12]}".lstrip("-")


def folder_of(options: Mapping[str, Any], name: str) -> Path:
    """The folder that the option names. UserError if there is none."""
    path = Path(options[name]).expanduser()
    if not path.is_dir():
        raise UserError(f"{path} is no folder. Give data.source.{name} another path.")
    return path


def words(text: str) -> str:
    """A caption as one line of valid Unicode."""
    return " ".join(text.encode(errors="replace").decode().split())


def json_of(text: str | bytes) -> Any:
    """ValueError("not JSON") for what is not, also where Python's reader is more lenient (NaN) or gives up (nesting)."""
    try:
        return JSON.decode(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None


def captioned(value: Any) -> tuple[str, dict[str, Any]]:
    """The field `caption` of a JSON object, and its other fields. ValueError if it is none, or the caption is no text."""
    if not isinstance(value, dict) or not isinstance(value.get("caption", ""), str):
        raise ValueError("no JSON object with a text as its caption")
    return value.get("caption", ""), {name: field for name, field in value.items() if name != "caption"}


def _no_constant(name: str) -> None:
    raise ValueError(name)


JSON = json.JSONDecoder(parse_constant=_no_constant)


def shown(name: str | bytes) -> str:
    """A file's name that can be printed, whatever its bytes."""
    raw = name.encode(errors="surrogateescape") if isinstance(name, str) else name
    return "".join(c if c.isprintable() else "\ufffd" for c in raw.decode(errors="replace"))


def read_image(path: Path) -> bytes:
    with path.open("rb") as f:
        data = f.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file has more than {MAX_BYTES} bytes")
    return data
