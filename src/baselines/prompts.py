"""What a text-to-image base is told (paper, 5.3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from src.methods import Batch, Words


def prompts(row: Mapping[str, Any], common: Mapping[str, Any], batch: Batch) -> tuple[list[str], list[str]]:
    """Positive and negative prompts of a batch for a row of `conf/baseline` and the `prompts` of `conf/weights`.

    Where the reference is an image, a figure in the one and none in the other picture is said in words ("a girl"): in the negative
    prompt where a figure colours a landscape, in the positive one where a landscape colours a figure.
    """
    positive, negative = [], []
    by_image = row["image"] is not None or row["reference_only"] is not None
    own, other = (_padded(words, len(batch)) for words in (batch.words, batch.reference_words))
    for sketch, reference in zip(own, other, strict=True):
        told = {"sketch": sketch.caption, "reference": reference.caption, None: ""}[row["prompt"]]
        more = common["figure"] if by_image and sketch.figure and not reference.figure else ""
        less = common["figure"] if by_image and reference.figure and not sketch.figure else ""
        positive.append(_joined(told, more, common["positive"]))
        negative.append(_joined(less, common["negative"].get(row["base"], "")))
    return positive, negative


def _padded(words: Sequence[Words], count: int) -> Sequence[Words]:
    return words or [Words()] * count


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
