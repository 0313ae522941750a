"""Where a local edit acts: the correlation map of Eq. 9 and the five zones of Eq. 10, as arrays and over the reference.

The map of the i-th edit of a sequence is `correlation_map(edit_local(tokens, cls, edits[:i]), edits[i].control)`. One image at a
time, m [n] in the row order of CLIP's patches. CLIP sees the reference squeezed to its own shape, so the grid of tokens covers
the whole reference whatever its sides are. A pixel has the value of the token it lies in and nothing is smoothed: Algorithm 2
weighs tokens, and the pictures show exactly these weights' places.

Colours: the paper says that blue marks low values (4.2, Figure 8) and shows stratified maps (Figure 18) without naming the rest.
We take the jet map from blue over green to red; the zones are its five even steps, so the tokens with omega = -d r are blue and
those with omega = d red. The authors' demo has the same map, and the same 30 % of the reference under it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from src.manipulation.algorithms import zones
from src.manipulation.edits import THRESHOLDS

OPACITY = 0.7


def correlation_array(m: Tensor, size: tuple[int, int], grid: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """m [n] in [0, 1] at size (H, W) -> float32 [H, W]. grid: rows and columns of tokens, a square one by default.

    ValueError: m is not [n], or the grid has another number of tokens.
    """
    return _spread(m.detach().float().cpu().numpy(), size, grid)


def zone_array(
    m: Tensor, size: tuple[int, int], thresholds: Sequence[float] = THRESHOLDS, grid: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """The zone of Eq. 10 (0 to 4, from m <= ts_0 to m > ts_3) of m [n] at size (H, W) -> uint8 [H, W]. Else as above."""
    return _spread(zones(m, thresholds).cpu().numpy().astype(np.uint8), size, grid)


def correlation_picture(
    reference: NDArray[np.uint8], m: Tensor, grid: tuple[int, int] | None = None, opacity: float = OPACITY
) -> NDArray[np.uint8]:
    """The correlation map m [n] over its reference, uint8 RGB [H, W, 3] -> uint8 RGB [H, W, 3].

    opacity: share of the map's colours in [0, 1]. ValueError: no such image or opacity, and as above.
    """
    return _overlay(reference, jet(correlation_array(m, _size(reference), grid)), opacity)


def zone_picture(
    reference: NDArray[np.uint8],
    m: Tensor,
    thresholds: Sequence[float] = THRESHOLDS,
    grid: tuple[int, int] | None = None,
    opacity: float = OPACITY,
) -> NDArray[np.uint8]:
    """The five zones over the reference, in the colours `zone_colours()`. Else as `correlation_picture`."""
    return _overlay(reference, zone_colours()[zone_array(m, _size(reference), thresholds, grid)], opacity)


def zone_colours() -> NDArray[np.uint8]:
    """The colours of the zones, for a legend: uint8 RGB [5, 3]."""
    return jet(np.linspace(0, 1, 5))


def jet(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The jet colour map: values [...] in [0, 1], dark blue over blue, green and red to dark red -> uint8 RGB [..., 3]."""
    peaks = np.array([3, 2, 1])  # of red, green and blue, in quarters
    return np.round(255 * np.clip(1.5 - np.abs(4 * np.asarray(values)[..., None] - peaks), 0, 1)).astype(np.uint8)


def _spread(cells: np.ndarray, size: tuple[int, int], grid: tuple[int, int] | None) -> np.ndarray:
    """Values of tokens [n] at size (H, W) -> [H, W]: each pixel has the value of the token that its centre lies in."""
    rows, columns = grid or (round(cells.size**0.5),) * 2
    if cells.ndim != 1 or rows * columns != cells.size:
        raise ValueError(f"A map needs to be [n] on a grid of n tokens, got {list(cells.shape)} on {rows} x {columns}.")
    y, x = ((2 * np.arange(pixels) + 1) * count // (2 * pixels) for pixels, count in zip(size, (rows, columns), strict=True))
    return cells.reshape(rows, columns)[y[:, None], x]


def _size(reference: np.ndarray) -> tuple[int, int]:
    if reference.dtype != np.uint8 or reference.ndim != 3 or reference.shape[2] != 3:
        raise ValueError(f"A reference needs to be uint8 [H, W, 3], got {reference.dtype} {list(reference.shape)}.")
    return reference.shape[0], reference.shape[1]


def _overlay(reference: NDArray[np.uint8], colours: NDArray[np.uint8], opacity: float) -> NDArray[np.uint8]:
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity needs to be in [0, 1], got {opacity!r}.")
    return np.round((1 - opacity) * reference.astype(np.float32) + opacity * colours).astype(np.uint8)
