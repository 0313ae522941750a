"""Colour transfer: how near two drawings are in their colours, wherever these lie in the picture.

The distance is a sliced Wasserstein distance (Rabin et al. 2011) between the CIE Lab pixels of two drawings. Paper and ink say
nothing about colours and are left out by one rule: a pixel within a difference (CIE76) of 3 of pure white is paper, one with a
lightness under 12 is ink. Grey, off-white and dark fills stay; pure white and black fills are lost, the price of a rule that
needs no mask.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

PROJECTIONS, QUANTILES = 32, 64
PAPER_DIFFERENCE, INK_LIGHTNESS = 3.0, 12.0

# Linear sRGB to CIE XYZ, D65 (IEC 61966-2-1).
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = np.array([100.0, 0.0, 0.0])


def lab(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 sRGB [..., 3] -> CIE Lab [..., 3]: L in [0, 100], a and b about -110 to 100. ValueError: not uint8 [..., 3]."""
    if image.dtype != np.uint8 or image.shape[-1:] != (3,):
        raise ValueError(f"An image needs to be uint8 [..., 3], got {image.dtype} {list(image.shape)}.")
    xyz = _linear()[image] @ (XYZ / XYZ.sum(1, keepdims=True)).T.astype(np.float32)  # relative to white, which is thus exact
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * ((29 / 6) ** 2 / 3) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1).astype(np.float32)


def coloured(pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which Lab pixels [..., 3] are neither paper nor ink -> bool [...]."""
    paper = ((pixels - WHITE) ** 2).sum(-1) <= PAPER_DIFFERENCE**2
    return ~paper & (pixels[..., 0] >= INK_LIGHTNESS)


def palette_signature(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """Quantiles of the coloured Lab pixels along fixed directions -> float32 [PROJECTIONS * QUANTILES].

    image: uint8 RGB [H, W, 3]; mask: bool [H, W], the pixels to look at (all). An image without coloured pixels is white.
    The mean absolute difference of two signatures is their palette distance, so many pairs need each image once.
    ValueError: image or mask of another kind or shape.
    """
    if image.ndim != 3:
        raise ValueError(f"An image needs to be uint8 [H, W, 3], got {list(image.shape)}.")
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
        raise ValueError(f"A mask needs to be bool {list(image.shape[:2])}, got {mask.dtype} {list(mask.shape)}.")
    pixels = lab(image)
    chosen = coloured(pixels)
    pixels = pixels[chosen if mask is None else chosen & mask]
    if not len(pixels):
        pixels = WHITE[None].astype(np.float32)
    projected = np.sort(_directions() @ pixels.T, axis=1)  # => [P, pixels]
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES * len(pixels)
    return projected[:, middle.astype(int)].ravel()


def palette_distance(
    a: NDArray[np.uint8], b: NDArray[np.uint8], mask_a: NDArray[np.bool_] | None = None, mask_b: NDArray[np.bool_] | None = None
) -> float:
    """Sliced Wasserstein-1 distance between the coloured pixels of two uint8 RGB images [H, W, 3], of any two sizes.

    In units of Lab, from 0. The mean over directions halves lengths: all colours shifted by d are about d / 2 away.
    mask_a, mask_b: bool [H, W], the pixels to look at (all).
    """
    return float(np.abs(palette_signature(a, mask_a) - palette_signature(b, mask_b)).mean())


def closer_share(
    results: Sequence[NDArray[np.uint8]], references: Sequence[NDArray[np.uint8]], seed: int = 0, others: int = 16
) -> tuple[float, float, float]:
    """(share, low, high): how often a result is nearer to its own reference's palette than to another reference's.

    results, references: n uint8 RGB images each, [H, W, 3], in pairs. Each result meets `others` random other references (all
    n - 1 if there are fewer), without repeats; a tie counts half, so chance is 0.5. low, high: Wilson's 95 % interval with n
    trials: comparisons that share a result are not independent, results are.
    ValueError: fewer than two pairs, unequal numbers, or others < 1.
    """
    n = len(results)
    if n != len(references) or n < 2 or others < 1:
        raise ValueError(f"Two or more pairs are needed, and others: got {n} results, {len(references)} references, {others}.")
    made, wanted = (np.stack([palette_signature(image) for image in images]) for images in (results, references))
    rng = np.random.default_rng(seed)
    wins = np.empty(n)
    for i in range(n):
        rivals = rng.choice(n - 1, min(others, n - 1), replace=False)
        rivals += rivals >= i  # skip the own reference
        own, *other = np.abs(made[i] - wanted[[i, *rivals]]).mean(1)
        wins[i] = np.mean([own < d or 0.5 * (own == d) for d in other])
    share = float(wins.mean())
    return share, *wilson_interval(share, n)


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """Wilson's (1927) 95 % interval (low, high) for a share in [0, 1] of `trials` independent trials."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return max(centre - half, 0.0), min(centre + half, 1.0)


@cache
def _linear() -> NDArray[np.float32]:
    """Linear light of each sRGB byte, [256]."""
    s = np.arange(256) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def _directions() -> NDArray[np.float32]:
    """Unit directions in Lab, [P, 3]: a Fibonacci lattice on the half sphere (32 random ones favour an axis by a quarter)."""
    i = np.arange(PROJECTIONS)
    height, turn = (i + 0.5) / PROJECTIONS, i * math.pi * (3 - math.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([height, radius * np.cos(turn), radius * np.sin(turn)], 1).astype(np.float32)
