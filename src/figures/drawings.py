"""Held-out drawings by their keys."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from src.files import UserError
from src.methods import Words


@dataclass(frozen=True, eq=False)
class Drawing:
    """sketch: uint8 [H, W]; color: uint8 [H, W, 3]; regions: uint8 [H, W], 0 = none, or None where the data set knows none;
    parts: the words of each region, such as `red hair`; words: of the whole.
    """

    key: str
    sketch: np.ndarray
    color: np.ndarray
    regions: np.ndarray | None
    parts: tuple[str, ...]
    words: Words = field(default_factory=Words)


def drawings(root: Path, keys: Sequence[str]) -> dict[str, Drawing]:
    """The held-out drawings of these keys in a data set. UserError for a key that it does not have."""
    from src.data.columns import Column
    from src.data.images import from_bytes, image_in

    split = root / "val"
    if not (split / "sketch").exists():
        raise UserError(f"There are no drawings in {split}: `dvc repro sketch` makes them.")
    color, sketch = Column(split / "color"), Column(split / "sketch")
    place = {key: row for row, key in enumerate(color.keys)}
    if missing := [key for key in keys if key not in place]:
        raise UserError(f"{split} has no drawing {missing[0]}: choose others in conf/figure, or a scale with all drawings.")
    found = {}
    for key in dict.fromkeys(keys):
        sample = color[place[key]]
        regions = from_bytes(sample["regions.png"], "L") if "regions.png" in sample else None
        lines = from_bytes(image_in(sketch[place[key]]), "L")
        meta = json.loads(sample["json"]) if "json" in sample else {}
        words = Words(meta.get("caption", ""), meta.get("person", False))
        found[key] = Drawing(key, lines, from_bytes(image_in(sample)), regions, _parts(meta), words)
    return found


def _parts(meta: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(" ".join(word for word in (p["color"], p["part"]) if word != "color") for p in meta.get("parts", []))


def data_hashes(root: Path) -> dict[str, str]:
    """The hash of the bytes of each column that figures are made from, by its path."""
    from src.data.columns import contents, read_index

    return {(root / "val" / name).as_posix(): contents(read_index(root / "val" / name)) for name in ("color", "sketch")}


def reference_tokens(backbone: Any, image: np.ndarray) -> Any:
    """CLIP's tokens [1, 1 + n, D] of an image uint8 [H, W, 3], on the backbone's device."""
    import torch

    from src.backbone.parts import to_input

    device = next(backbone.vae.parameters()).device
    with torch.inference_mode():
        return backbone.tokens(to_input(torch.from_numpy(image.copy())[None]).to(device))
