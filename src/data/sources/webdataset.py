"""Tar shards in the WebDataset format, with an image a sample and its caption in `.txt`, or `.json` with a field `caption`.

options: shards: the folder of the shards (`.tar`, at any depth); group: the field of a sample's json that says what is drawn, as
variants of one drawing must share it, or null where each sample is a drawing of its own.

Nothing is unpacked, so that the names in a shard are keys and never paths. What a broken shard holds before the break is used.
"""

import os
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any

from src.data.columns import Unusable
from src.data.images import MAX_BYTES, ImageError
from src.data.sources import IMAGES, MAX_TEXT, Item, Loaded, Row, captioned, folder_of, json_of, key_of, shown, words
from src.files import UserError

FILTERS: tuple[str, ...] = ()
Members = dict[str, tuple[int, int]]  # extension -> where its bytes begin in the shard, and how many they are


def rows(options: Mapping[str, Any]) -> Iterator[Item]:
    root = folder_of(options, "shards")
    found = sorted((str(path.relative_to(root)) for path in root.rglob("*.tar") if path.is_file()), key=os.fsencode)
    if not found:
        raise UserError(f"{root} holds no shards (*.tar). Give data.source.shards another path.")
    for shard in found:
        try:
            with (root / shard).open("rb") as f:
                seen: set[str] = set()
                for key, members in _samples(f):
                    if isinstance(members, str):
                        yield Unusable(key_of(os.fsencode(shard)), f"{shown(shard)}: {members}")
                        continue
                    item = _row(shard, f, key, members, options.get("group"))
                    if key in seen and not isinstance(item, Unusable):
                        item = Unusable(f"{item.key}-again", f"{item.meta['path']}: the shard has this key twice")
                    seen.add(key)
                    yield item
        except OSError as error:
            yield Unusable(key_of(os.fsencode(shard)), f"{shown(shard)}: cannot be read ({error.strerror})")


def load(place: Mapping[str, Any], options: Mapping[str, Any]) -> Loaded:
    with (folder_of(options, "shards") / place["shard"]).open("rb") as f:
        f.seek(place["offset"])
        data = f.read(place["size"])
    if len(data) != place["size"]:
        raise ImageError("its shard has become shorter")
    return Loaded(data)


def _samples(f: IO[bytes]) -> Iterator[tuple[str, Members | str]]:
    """The samples of a shard, which are its successive members of one name up to the first dot; last, why it ends too early."""
    end = f.seek(0, os.SEEK_END)
    f.seek(0)
    key, members = "", Members()
    reason = ""
    try:
        with tarfile.open(fileobj=f, mode="r:", errors="surrogateescape") as tar:
            for member in tar:
                if not member.isreg() or member.sparse is not None:
                    continue
                where, _, base = member.name.rpartition("/")
                stem, dot, extension = base.partition(".")
                if not stem or not dot:
                    continue
                if member.size < 0 or member.offset_data + member.size > end:
                    reason = f"cut off in {shown(member.name)}"
                    break
                if (whole := f"{where}/{stem}".lstrip("/")) != key or extension.lower() in members:
                    if members:
                        yield key, members
                    key, members = whole, Members()
                members[extension.lower()] = (member.offset_data, member.size)
            reason = reason or _break(f, tar.offset)
    except tarfile.TarError as error:
        reason = "no tar file" if not members and not key else f"broken after {shown(key)} ({error})"
    except (ValueError, OverflowError, UnicodeError, EOFError):
        reason = f"broken after {shown(key)}"
    if members:
        yield key, members
    if reason:
        yield "", reason


def _break(f: IO[bytes], offset: int) -> str:
    """Why reading ended at the offset, or nothing: a tar file ends with zeros, and its reader stops quietly at anything else."""
    f.seek(offset)
    if f.read(tarfile.BLOCKSIZE).strip(b"\0"):
        return f"broken at byte {offset}"
    while more := f.read(MAX_TEXT):
        if more.strip(b"\0"):
            return f"goes on after its end at byte {offset}, as joined tar files do"
    return ""


def _row(shard: str, f: IO[bytes], key: str, members: Members, group: str | None) -> Row | Unusable:
    name = f"{shard}/{key}"
    row_key = key_of(os.fsencode(name))
    image = next((members[e] for e in IMAGES if e in members), None)
    if image is None:
        return Unusable(row_key, f"{shown(name)}: no image among its {', '.join(map(shown, members))}")
    if image[1] > MAX_BYTES:
        return Unusable(row_key, f"{shown(name)}: its image has more than {MAX_BYTES} bytes")
    place = {"shard": shard, "offset": image[0], "size": image[1]}
    try:
        text, raw = (_text(f, members.get(e)) for e in ("txt", "json"))
        caption, meta = captioned(json_of(raw)) if raw is not None else ("", {})
    except ValueError as error:
        return Unusable(row_key, f"{shown(name)}: its text is {error}")
    named = meta.get(group) if group else None
    drawing = row_key if named is None else str(named)
    return Row(row_key, drawing, place, words(caption if text is None else text), {**meta, "path": shown(name)})


def _text(f: IO[bytes], member: tuple[int, int] | None) -> str | None:
    if member is None:
        return None
    offset, size = member
    if size > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} bytes")
    position = f.tell()
    f.seek(offset)
    data = f.read(size)
    f.seek(position)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
