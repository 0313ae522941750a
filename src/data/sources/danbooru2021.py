"""Danbooru2021: metadata as JSON lines in any number of files, images as `0042/1042.jpg` (id modulo 1000), full size or 512 px.

options: metadata: a file, a folder, a pattern with `*`, or a list of these (.json, .jsonl, also .gz and .xz); images: the folder
of the numbered folders; extension: of every image, or null where it is the post's own (the 512 px subset has jpg alone);
filters, in the order in which they are applied: ratings, extensions, deleted, banned (true = kept), min_score, min_side (pixels of
the shorter side, by the metadata), require and exclude (tags; all of the first, none of the others).
"""

import glob
import gzip
import hashlib
import lzma
import os
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from src.data.columns import Unusable
from src.data.sources import MAX_TEXT, Item, Loaded, Removed, Row, folder_of, json_of, read_image, shown, words
from src.files import UserError

CATEGORIES = {0: "general", 1: "artist", 3: "copyright", 4: "character", 5: "meta"}
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
FILTERS = (
    "rating",
    "extension",
    "deleted",
    "banned",
    "score",
    "size",
    "a required tag is missing",
    "an excluded tag",
    "its image is not there",
)
RATING, EXTENSION, DELETED, BANNED, SCORE, SIDE, REQUIRED, EXCLUDED, MISSING = map(Removed, FILTERS)
ENDINGS = tuple(kind + packed for kind in (".json", ".jsonl") for packed in ("", *OPENERS))


def rows(options: Mapping[str, Any]) -> Iterator[Item]:
    ratings, extensions = set(options["ratings"]), {e.lower() for e in options["extensions"]}
    require, exclude = frozenset(options["require"]), frozenset(options["exclude"])
    images = folder_of(options, "images")
    present: dict[str, array[int]] = {}

    def outcome(post: dict[str, Any]) -> Item:
        number = _whole(post, "id")
        if number < 0:
            raise ValueError(f"its id is {number}")
        extension = str(post.get("file_ext", "")).lower()
        if str(post.get("rating")) not in ratings:
            return RATING
        if extension not in extensions:
            return EXTENSION
        if _true(post.get("is_deleted")) and not options["deleted"]:
            return DELETED
        if _true(post.get("is_banned")) and not options["banned"]:
            return BANNED
        score = _whole(post, "score", 0)
        if options["min_score"] is not None and score < options["min_score"]:
            return SCORE
        if min(_whole(post, "image_width"), _whole(post, "image_height")) < options["min_side"]:
            return SIDE
        tags = _tags(post)
        names = {name for category in tags.values() for name in category}
        if not require <= names:
            return REQUIRED
        if not exclude.isdisjoint(names):
            return EXCLUDED
        place = f"{number % 1000:04d}"
        if place not in present:
            present[place] = _ids(images / place)
        at = bisect_left(present[place], number)
        if at == len(present[place]) or present[place][at] != number:
            return MISSING
        caption = ", ".join(_spoken(name) for name in [*tags.get("character", []), *tags.get("general", [])])
        meta = {"id": number, "rating": post["rating"], "score": score, "tags": tags}
        group = str(_whole(post, "parent_id", number))
        return Row(str(number), group, {"path": f"{place}/{number}.{options['extension'] or extension}"}, words(caption), meta)

    for where, line in _lines(_metadata(options["metadata"])):
        try:
            if isinstance(line, str):
                raise ValueError(line)
            post = json_of(line)
            if not isinstance(post, dict):
                raise ValueError("no JSON object")
            yield outcome(post)
        except ValueError as error:
            digest = hashlib.sha256(line.encode() if isinstance(line, str) else line).hexdigest()[:12]
            yield Unusable(f"metadata-{digest}", f"{where}: {error}")


def load(place: Mapping[str, Any], options: Mapping[str, Any]) -> Loaded:
    return Loaded(read_image(folder_of(options, "images") / place["path"]))


def _metadata(wanted: Any) -> list[Path]:
    found: list[Path] = []
    for name in [wanted] if isinstance(wanted, str) else wanted:
        path = Path(name).expanduser()
        if path.is_dir():
            files = [p for p in path.iterdir() if p.name.endswith(ENDINGS)]
        else:
            files = [path] if path.exists() else [Path(p) for p in glob.glob(str(path))]
        if not files:
            raise UserError(f"{path}: no metadata there. Give data.source.metadata another path.")
        found += files
    return sorted(set(found), key=os.fsencode)


def _lines(files: list[Path]) -> Iterator[tuple[str, bytes | str]]:
    """The lines with where they are; instead of a line that cannot be read a reason (str)."""
    for path in files:
        name, number = shown(path.name), 0
        try:
            opened: IO[bytes] = OPENERS.get(path.suffix, open)(path, "rb")  # type: ignore[operator]
            with opened as f:
                while line := f.readline(MAX_TEXT):
                    number += 1
                    whole = len(line) < MAX_TEXT or line.endswith(b"\n")
                    while not line.endswith(b"\n") and len(line) == MAX_TEXT:
                        line = f.readline(MAX_TEXT)
                    if not whole:
                        yield f"{name} line {number}", f"longer than {MAX_TEXT} bytes"
                    elif line.strip():
                        yield f"{name} line {number}", line
        except (EOFError, lzma.LZMAError, zlib.error, OSError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or "its compressed data is broken or cut off"
            yield f"{name} after line {number}", reason


def _whole(post: Mapping[str, Any], name: str, missing: int | None = None) -> int:
    """A field as a whole number; the metadata writes numbers as text in some years and as numbers in others."""
    value = post.get(name)
    if value is None and missing is not None:
        return missing
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        number = int(value)
        if abs(number) >= 2**63:
            raise ValueError
        return number
    except ValueError:
        raise ValueError(f"its {name} is no whole number") from None


def _true(value: Any) -> bool:
    return value is True or value in ("1", "t", "true")


def _tags(post: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names by category, in their order. ValueError if they are written in another way."""
    tags: dict[str, list[str]] = {}
    try:
        for tag in post.get("tags") or []:
            category = CATEGORIES.get(int(tag["category"]))
            if category and isinstance(tag["name"], str):
                tags.setdefault(category, []).append(tag["name"])
    except (TypeError, KeyError, ValueError, OverflowError):
        raise ValueError("its tags are no list of objects with name and category") from None
    return tags


def _spoken(tag: str) -> str:
    """`long_hair` as "long hair"; three characters or fewer are a face: `^_^`, `o_o`."""
    return tag.replace("_", " ") if len(tag) > 3 else tag


def _ids(path: Path) -> "array[int]":
    """The ids of the images in a folder, sorted: 8 bytes for each of some millions."""
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        names = []
    stems = (os.path.splitext(name)[0] for name in names)
    return array("q", sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) < 19))
