"""What a text edit says (paper, Section 4), edits from words, and progressive series of one edit."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from src.files import UserError

EVERYTHING: Literal["everything"] = "everything"
THRESHOLDS = (0.5, 0.55, 0.65, 0.95)
RATIO = 2.0
TEXTS = ("target", "anchor", "control")
UNIT_TOLERANCE = 0.01  # a unit vector in bfloat16 is off by up to 0.004


class EditError(UserError, ValueError):
    """An edit that cannot be. The message says which value is wrong and what it needs to be."""


@dataclass(frozen=True, eq=False)  # compared by identity: tensors have no single truth value
class Edit:
    """One text edit of the reference tokens, global (Algorithm 1) or local (Algorithm 2).

    target, anchor, control: text embeddings [D] of unit length, the paper's e, a and c: what the reference shall show, what it
        shows instead now (None: no anchor), and what tells the edit's place ("everything": the whole image). Only local edits
        read `control`, and they need it.
    target_scale: the wanted projection on the target, in units of the unnormalised tokens; 4 to 15 are reasonable (paper, 4.1).
    enhance: the stronger variant of Eq. 5, 7 and 11.
    thresholds: ts_0 to ts_3 of Eq. 10, in [0, 1], not decreasing; between two equal ones Eq. 10 is a step.
    ratio: r of Eq. 10, how much more than d, and the other way, places of low correlation change; 0 leaves them as they are.
    subtract_projection: local edits without an anchor take d = target_scale - v_cls . e, as the authors' implementation does and
        Eq. 11 reads, instead of Algorithm 2's d = target_scale.
    EditError (a ValueError and a UserError): a value outside these.
    """

    target: Tensor
    anchor: Tensor | None = None
    control: Tensor | Literal["everything"] | None = None
    _: KW_ONLY
    target_scale: float
    enhance: bool = False
    thresholds: Sequence[float] = THRESHOLDS
    ratio: float = RATIO
    subtract_projection: bool = False

    def __post_init__(self) -> None:
        _check_embedding("target", self.target, None)
        if self.anchor is not None:
            _check_embedding("anchor", self.anchor, self.target)
        if isinstance(self.control, str):
            if self.control != EVERYTHING:
                raise EditError(f'control needs to be an embedding or "{EVERYTHING}", got {self.control!r}.')
        elif self.control is not None:
            _check_embedding("control", self.control, self.target)
        if not _finite(self.target_scale):
            raise EditError(f"target_scale needs to be a finite number, got {self.target_scale!r}.")
        if not _finite(self.ratio) or self.ratio < 0:
            raise EditError(f"ratio needs to be a finite number of at least 0, got {self.ratio!r}.")
        if not _ordered(self.thresholds):
            raise EditError(f"thresholds need to be four numbers in [0, 1] that do not decrease, got {self.thresholds!r}.")
        for name in ("enhance", "subtract_projection"):
            if not isinstance(getattr(self, name), bool):
                raise EditError(f"{name} needs to be true or false, got {getattr(self, name)!r}.")
        # NumPy's numbers and the configuration's lists become Python's own.
        object.__setattr__(self, "target_scale", float(self.target_scale))
        object.__setattr__(self, "ratio", float(self.ratio))
        object.__setattr__(self, "thresholds", tuple(float(ts) for ts in self.thresholds))


def encode_edits(specs: Sequence[Mapping[str, Any]], text_encoder: Callable[[list[str]], Tensor]) -> list[Edit]:
    """Edits from words. A spec has the fields of `Edit`, with texts for target, anchor and control; absent and null are defaults.

    An empty anchor or control is none; the control "everything" stands for the whole image and is not encoded.
    text_encoder: texts to unit features [B, D], such as `Backbone.text`; called once, with every different text once.
    EditError: an unknown or missing field or a wrong value, with the number of the edit, counted from 1.
    """
    rows = [_texts(number, spec) for number, spec in enumerate(specs, 1)]
    if not rows:
        return []
    wanted = list(dict.fromkeys(text for row in rows for name, text in row.items() if not _whole_image(name, text)))
    with torch.no_grad():
        embeddings = dict(zip(wanted, text_encoder(wanted), strict=True))
    edits = []
    for number, (spec, row) in enumerate(zip(specs, rows, strict=True), 1):
        values = {name: value for name, value in spec.items() if name not in TEXTS and value is not None}
        for name, text in row.items():
            values[name] = EVERYTHING if _whole_image(name, text) else embeddings[text]
        try:
            edits.append(Edit(**values))
        except EditError as error:
            raise EditError(f"Edit {number}: {error}") from None
    return edits


def series(edit: Edit, target_scales: Sequence[float]) -> list[Edit]:
    """The same edit at each target scale: the progressive change of the paper's Figures 1 and 18. EditError: no finite scale."""
    return [replace(edit, target_scale=scale) for scale in target_scales]


def _texts(number: int, spec: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a spec that are there, stripped."""
    if not isinstance(spec, Mapping):
        raise EditError(f"Edit {number}: it needs to be a mapping such as {{target: red hair, target_scale: 8}}, got {spec!r}.")
    known = [field.name for field in fields(Edit)]
    unknown = sorted(str(name) for name in spec if name not in known)
    if unknown:
        raise EditError(f"Edit {number}: an edit has no {', '.join(unknown)}; it has {', '.join(known)}.")
    texts = {}
    for name in TEXTS:
        text = spec.get(name)
        if text is not None and not isinstance(text, str):
            raise EditError(f"Edit {number}: {name} needs to be a text, got {text!r}.")
        if text and text.strip():
            texts[name] = text.strip()
    needed = {"target": texts.get("target"), "target_scale": spec.get("target_scale")}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise EditError(f"Edit {number}: it lacks {' and '.join(missing)}.")
    return texts


def _whole_image(name: str, text: str) -> bool:
    return name == "control" and text.lower() == EVERYTHING


def _check_embedding(name: str, embedding: object, target: Tensor | None) -> None:
    if not isinstance(embedding, Tensor) or embedding.ndim != 1 or not embedding.is_floating_point():
        given = list(embedding.shape) if isinstance(embedding, Tensor) else repr(embedding)
        raise EditError(f"{name} needs to be a text embedding [D] of floating numbers, got {given}.")
    if target is not None and len(embedding) != len(target):
        raise EditError(f"{name} needs to have the {len(target)} numbers of the target, got {len(embedding)}.")
    length = float(embedding.float().norm())
    if not abs(length - 1) <= UNIT_TOLERANCE:
        raise EditError(f"{name} needs to be a text embedding of length 1, got length {length:.4g}.")


def _finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _ordered(thresholds: object) -> bool:
    if not isinstance(thresholds, Sequence) or len(thresholds) != 4 or not all(_finite(ts) for ts in thresholds):
        return False
    return all(low <= high for low, high in zip([0, *thresholds], [*thresholds, 1], strict=True))
