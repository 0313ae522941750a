"""The column `color` of a source: its drawings, decoded, at the size of training, with caption and metadata."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.data.columns import Sample, Unusable
from src.data.images import ImageError, encode, fitted, to_png
from src.data.rows import read_rows
from src.data.sources import Loaded, Row, source

PROPORTION = 0.02  # by which those of a user's line drawing may differ from the drawing's


def color_shard(
    shard: int,
    keys: Sequence[str],
    *,
    rows: Path,
    starts: Sequence[int],
    kind: str,
    options: Mapping[str, Any],
    size: int,
    image: Mapping[str, Any],
    encoding: Mapping[str, Any],
) -> Iterator[tuple[str, Sample] | Unusable]:
    """Samples of a shard: the drawing (member `png`, `jpg` or `webp`), the user's own `line.png` where there is one, and `json`."""
    load = source(kind).load
    for row in read_rows(rows, starts[shard], keys):
        if isinstance(row, Unusable):
            yield row
            continue
        try:
            yield row.key, _sample(row, load(row.place, options), size, image, encoding)
        except ImageError as error:
            yield Unusable(row.key, f"{_name(row)}: {error}")
        except OSError as error:
            yield Unusable(row.key, f"{_name(row)}: cannot be read ({error.strerror})")


def _name(row: Row) -> str:
    return str(row.meta.get("path") or row.place["path"])


def _sample(row: Row, loaded: Loaded, size: int, image: Mapping[str, Any], encoding: Mapping[str, Any]) -> Sample:
    color, own = fitted(loaded.image, size, **image)
    meta = row.meta | {"caption": row.caption, "group": row.group, "width": own[0], "height": own[1]}
    sample = {encoding["format"]: encode(color, **encoding)}
    if loaded.line is not None:
        sample["line.png"] = to_png(_line(loaded.line, own, size, image["fit"]))
    return {**sample, "json": json.dumps(meta, sort_keys=True).encode()}


def _line(data: bytes, own: tuple[int, int], size: int, fit: str) -> Any:
    """The user's line drawing, uint8 [H, W], at the place of its drawing of (width, height) `own`."""
    try:
        line, drawn = fitted(data, size, fit, like=own, mode="L")
    except ImageError as error:
        raise ImageError(f"its sketch: {error}") from None
    if abs(drawn[0] * own[1] / (drawn[1] * own[0]) - 1) > PROPORTION:
        raise ImageError(f"its sketch has {drawn[0]} x {drawn[1]} pixels, other proportions than {own[0]} x {own[1]}")
    return line
