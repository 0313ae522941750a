"""Entanglement: how much of a result's structure follows the reference, where the sketch and the noise stay the same?

Structure is where colours change, not which colours they are: a picture whose regions are painted in other colours has the same.
"""

import numpy as np
from numpy.typing import NDArray

from src.metrics.palette import lab

EDGE = 10.0  # Lab units from pixel to pixel: there an edge counts half


def edges(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Edges of an image, uint8 RGB [H, W, 3] -> [H, W] in [0, 1).

    |d|^2 / (|d|^2 + EDGE^2), with the Lab differences d of a pixel to those on its right and below it: an edge between any two
    colours that clearly differ is near 1, so that other colours hardly change it.
    """
    pixels = lab(image).astype(np.float64)
    squares = np.zeros(image.shape[:2])
    squares[:, :-1] += (np.diff(pixels, axis=1) ** 2).sum(-1)
    squares[:-1] += (np.diff(pixels, axis=0) ** 2).sum(-1)
    return squares / (squares + EDGE**2)


# The edges of an image, [H, W], and their largest value within a pixel of each place.
_Edges = tuple[NDArray[np.float64], NDArray[np.float64]]


def _edges(image: NDArray[np.uint8]) -> _Edges:
    from scipy.ndimage import maximum_filter

    own = edges(image)
    return own, maximum_filter(own, 3)


def _change(a: _Edges, b: _Edges) -> float:
    total = a[0].sum() + b[0].sum()
    alone = (a[0] - b[1]).clip(0).sum() + (b[0] - a[1]).clip(0).sum()
    return float(alone / total) if total > 0 else float("nan")


def structure_change(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """The share of the edges of two images, uint8 RGB [H, W, 3], that the other one does not have within a pixel: in [0, 1].

    nan: neither has an edge.
    """
    return _change(_edges(a), _edges(b))


def entanglement(results: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The change of structure by another reference, relative to that by another reference and another sketch -> float64 [N].

    results: uint8 [R, N, H, W, 3], the same N sketches and noise seeds with each of R references (or with one reference whose
    tokens are permuted R - 1 times). 0 = the sketch alone decides the structure, 1 = the reference alone. Mean over all pairs of
    references. The other sketch is the one half a list away: it should be of another drawing, which is none of the references.
    ValueError: R < 2 or N < 2.
    """
    if results.ndim != 5 or results.shape[0] < 2 or results.shape[1] < 2:
        raise ValueError(f"Two or more references and sketches are needed, uint8 [R, N, H, W, 3], got {list(results.shape)}.")
    count = results.shape[1]
    drawn = [[_edges(image) for image in images] for images in results]
    pairs = [(r, s) for r in range(len(drawn)) for s in range(len(drawn)) if r != s]
    own = np.array([[_change(drawn[r][i], drawn[s][i]) for i in range(count)] for r, s in pairs if r < s])
    other = np.array([[_change(drawn[r][i], drawn[s][(i + count // 2) % count]) for i in range(count)] for r, s in pairs])
    # Pooled: some drawings have one outline (squares, discs), and two of them no change to divide by.
    return own.mean(0) / other.mean()
