"""Any tree of images, with captions beside them (`girl.png`, `girl.txt` or `girl.json`) or none.

options: images: the folder; extensions: of the files that count; sketches: a second folder with line drawings, black on white,
at the same relative path as their drawing but for the extension, or null; group: a regular expression whose match in a drawing's
relative path without extension says what is drawn (its first group, if it has one), as variants of one drawing must share it.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from src.data.columns import Unusable
from src.data.sources import (
    IMAGES,
    MAX_TEXT,
    Item,
    Loaded,
    Removed,
    Row,
    captioned,
    folder_of,
    json_of,
    key_of,
    read_image,
    shown,
    words,
)
from src.files import UserError

FILTERS: tuple[str, ...] = ("another extension",)


def rows(options: Mapping[str, Any]) -> Iterator[Item]:
    root = folder_of(options, "images")
    extensions = {e.lower().lstrip(".") for e in options["extensions"]}
    sketches = _sketches(folder_of(options, "sketches")) if options.get("sketches") else {}
    group = _group(options.get("group") or r"[^/]*$")
    for name, found in _files(root):
        extension = _extension(name)
        if isinstance(found, str):
            # What cannot be looked at may be a drawing, or hold some.
            if extension in extensions or not extension:
                yield Unusable(key_of(os.fsencode(name)), f"{shown(name)}: {found}")
            continue
        if extension not in extensions:
            if extension in IMAGES:
                yield Removed(FILTERS[0])
            continue
        stem = name[: -len(extension) - 1]
        place = {"path": name, "size": found.st_size, **sketches.get(stem, {})}
        try:
            caption, meta = _caption(root / stem)
        except ValueError as error:
            yield Unusable(key_of(os.fsencode(name)), f"{shown(name)}: {error}")
            continue
        yield Row(key_of(os.fsencode(name)), shown(group(stem)), place, caption, {**meta, "path": shown(name)})


def load(place: Mapping[str, Any], options: Mapping[str, Any]) -> Loaded:
    image = read_image(folder_of(options, "images") / place["path"])
    return Loaded(image, read_image(folder_of(options, "sketches") / place["sketch"]) if "sketch" in place else None)


def _extension(name: str) -> str:
    stem, dot, extension = os.path.basename(name).rpartition(".")
    return extension.lower() if dot and stem else ""


def _group(pattern: str) -> Any:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.source.group is no regular expression ({error}): {pattern}") from None

    def group(stem: str) -> str:
        match = compiled.search(stem)
        return (match[match.re.groups and 1] if match else None) or stem

    return group


def _files(root: Path) -> Iterator[tuple[str, os.stat_result | str]]:
    """Every file below the folder, by its relative path, in the order of the names' bytes; hidden ones are left out.

    Links are followed, and a folder is entered once, so that links in a circle end. With a reason instead of its status: what
    cannot be read, and what is neither a file nor a folder.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        name = waiting.pop()
        try:
            status = os.stat(root / name)
            if stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) not in entered:
                    entered.add((status.st_dev, status.st_ino))
                    inside = sorted(os.listdir(root / name), key=os.fsencode, reverse=True)
                    waiting += [f"{name}/{entry}".lstrip("/") for entry in inside if not entry.startswith(".")]
            else:
                yield name, status if stat.S_ISREG(status.st_mode) else "neither a file nor a folder"
        except FileNotFoundError:
            yield name, "a link to nothing"
        except OSError as error:
            yield name, f"cannot be read ({error.strerror})"


def _sketches(root: Path) -> dict[str, dict[str, Any]]:
    """The line drawings by their relative path without extension. Of two that share it the first counts."""
    found: dict[str, dict[str, Any]] = {}
    for name, status in _files(root):
        if _extension(name) in IMAGES and not isinstance(status, str):
            found.setdefault(os.path.splitext(name)[0], {"sketch": name, "sketch_size": status.st_size})
    return found


def _caption(stem: Path) -> tuple[str, dict[str, Any]]:
    """Caption and metadata beside an image: all of a `.txt`; of a `.json` its field `caption`, and its other fields as metadata."""
    text, raw = _text(stem, ".txt"), _text(stem, ".json")
    if raw is None:
        return words(text or ""), {}
    try:
        caption, meta = captioned(json_of(raw))
    except ValueError as error:
        raise ValueError(f"the .json beside it is {error}") from None
    return words(caption if text is None else text), meta


def _text(stem: Path, extension: str) -> str | None:
    path = stem.parent / (stem.name + extension)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with path.open("rb") as f:
            data = f.read(MAX_TEXT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"the {extension} beside it cannot be read ({error.strerror})") from None
    if len(data) > MAX_TEXT:
        raise ValueError(f"the {extension} beside it has more than {MAX_TEXT} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"the {extension} beside it is not UTF-8") from None
