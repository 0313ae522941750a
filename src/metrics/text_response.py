"""Text response: does a drawing take what a text edit names, and does the rest of it stay as it was?

Differences of colours are CIE76, in units of Lab; about 2.3 is just noticeable.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from src.data.palette import FAMILIES, to_rgb
from src.metrics.palette import lab

LEAST_PIXELS = 20  # a mean over fewer says little
TOLERANCE = 2.3


def colour_distance(colour: NDArray[np.floating], name: str) -> float:
    """From a Lab colour [3] to the nearest shade of the palette's family `name`. KeyError: the palette has no such family."""
    return float(np.sqrt(((_shades(name) - colour) ** 2).sum(-1)).min())


def colour_name(colour: NDArray[np.floating]) -> str:
    """The palette's family with the shade nearest to a Lab colour [3]."""
    return min(FAMILIES, key=lambda name: colour_distance(colour, name))


def text_response(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    regions: NDArray[np.uint8],
    ink: NDArray[np.bool_],
    number: int,
    name: str,
) -> dict[str, float]:
    """What an edit that asks for the colour `name` in region `number` did.

    before, after: the results without and with it, same seed, uint8 RGB [H, W, 3]; regions: uint8 [H, W], 0 = background;
    ink: bool [H, W], line pixels, which count nowhere. ->
    distance_before, distance: from the region's mean colour to the named one (`colour_distance`), without and with the edit;
    closer: 1 where the second is the smaller one; named: 1 where the name of the region's mean colour is the named one;
    region, others, background: mean difference of the two results over the region, over all other regions, and outside all
    regions; nan below LEAST_PIXELS pixels. ValueError: shapes that do not fit, or a region without a pixel.
    """
    if not before.shape[:2] == after.shape[:2] == regions.shape == ink.shape:
        shapes = [list(array.shape) for array in (before, after, regions, ink)]
        raise ValueError(f"Results, regions and ink need to be of one size, got {', '.join(map(str, shapes))}.")
    chosen = (regions == number) & ~ink
    if not chosen.any():
        raise ValueError(f"Region {number} has no pixel beside the lines.")
    old, new = lab(before), lab(after)
    difference = np.sqrt(((old - new) ** 2).sum(-1))
    colour = new[chosen].mean(0)
    distance_before, distance = colour_distance(old[chosen].mean(0), name), colour_distance(colour, name)
    return {
        "distance_before": distance_before,
        "distance": distance,
        "closer": float(distance < distance_before),
        "named": float(colour_name(colour) == name),
        "region": float(difference[chosen].mean()),
        "others": _mean(difference[(regions > 0) & (regions != number) & ~ink]),
        "background": _mean(difference[(regions == 0) & ~ink]),
    }


def directional_similarity(before: ArrayLike, after: ArrayLike, source: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Directional CLIP similarity (Gal et al. 2021, StyleGAN-NADA): does the image move as the words do? -> [B], in [-1, 1].

    before, after: CLIP image embeddings [B, D] of the results without and with the edit, same seeds; source, target: CLIP text
    embeddings [D] or [B, D] of what was there (the edit's anchor) and of what is asked for. All are taken at unit length. The value
    is the cosine between the two differences, nan where the image or the words did not move: it says nothing about how far the
    image went. ValueError: shapes that do not fit.
    """
    images = _unit(after) - _unit(before)
    words = _unit(target) - _unit(source)
    if images.ndim != 2 or words.shape not in (images.shape, images.shape[1:]):
        raise ValueError(f"Images [B, D] need words [D] or [B, D], got differences {list(images.shape)} and {list(words.shape)}.")
    lengths = np.linalg.norm(images, axis=-1) * np.linalg.norm(words, axis=-1)
    return np.divide((images * words).sum(-1), lengths, out=np.full(len(images), np.nan), where=lengths > 1e-12)


def monotone(distances: NDArray[np.floating] | Sequence[Sequence[float]], tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Which series of distances [n, target scales] never rise by more than `tolerance` above the least before -> bool [n]."""
    values = np.asarray(distances, float)
    return np.all(values - np.minimum.accumulate(values, -1) <= tolerance, axis=-1)


def _unit(embeddings: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(embeddings, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size >= LEAST_PIXELS else float("nan")


@cache
def _shades(name: str) -> NDArray[np.float32]:
    return lab(np.array([to_rgb(shade) for shade in FAMILIES[name]], np.uint8))
