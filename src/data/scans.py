"""Photographs and scans of line drawings as clean line drawings."""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

# Paper that is darker than this share of the brightest paper is taken for a filled area of the drawing, not for shade.
DARKEST_PAPER = 0.35
# Lines are at least this much darker than their paper (as a share of it); what is less dark is drawn as lightly as it is.
LEAST_CONTRAST = 0.15


def clean_scan(gray: np.ndarray) -> np.ndarray:
    """A photograph or scan of a line drawing as black lines on white, uint8 [H, W] -> uint8 [H, W].

    The paper's brightness is estimated at each place, as what is brightest within an eighth of the shorter side; the drawing is
    divided by it, and white and black points are set by the spread of the paper and the darkness of the ink. Uneven light, grey
    paper, noise and pencil grey go; soft edges stay, and so do filled areas that are much darker than the paper. Shades of grey
    that are wider than an eighth of the drawing become white. ValueError for an array of another shape or type.
    """
    if gray.ndim != 2 or gray.dtype != np.uint8:
        raise ValueError(f"a scan must be uint8 [H, W], not {gray.dtype} {list(gray.shape)}")
    share = gray / _paper(gray)  # => [H, W], 1 = paper
    light = share[share > 0.8]
    if not light.size:
        return gray.copy()
    middle = np.median(light)
    # Ink is darker than the paper, so the brighter half of the paper shows its noise alone; 1.48 times the median is sigma.
    spread = 1.48 * np.median(light[light >= middle] - middle)
    white = middle - 4 * spread - 0.005
    ink = share[share < white]
    black = min(np.percentile(ink, 25), white - LEAST_CONTRAST) if ink.size else white - LEAST_CONTRAST
    # A white point below the paper makes lines thinner. The exponent gives what lies halfway from ink to paper half its grey again.
    half = np.clip((middle - black) / 2 / (white - black), 0.5, 0.8)
    soft = np.clip((share - black) / (white - black), 0, 1) ** np.float32(np.log(0.5) / np.log(half))
    return np.rint(255 * soft).astype(np.uint8)


def _paper(gray: np.ndarray) -> np.ndarray:
    """The brightness of the paper, float32 [H, W] of at least 1, found on a copy that is reduced to some 256 pixels."""
    height, width = gray.shape
    factor = max(1, min(height, width) // 256)
    padded = np.pad(gray, ((0, -height % factor), (0, -width % factor)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    small = gaussian_filter(blocks.mean((1, 3), dtype=np.float32), 0.7, mode="nearest")  # noise would pass for bright paper
    window = max(5, min(small.shape) // 8)
    # A closing; between its two halves the borders go on in straight lines, so that light may fall off towards them.
    brightest = np.pad(maximum_filter(small, window, mode="nearest"), window, mode="reflect", reflect_type="odd")
    paper = gaussian_filter(minimum_filter(brightest, window), window / 4)[window:-window, window:-window]
    paper = np.maximum(paper, max(1, DARKEST_PAPER * np.percentile(paper, 95)))
    # Centres of blocks and of pixels: pixel y lies at (y + 0.5) / factor - 0.5 of the small copy.
    rows, columns = ((np.arange(n, dtype=np.float32) + 0.5) / factor - 0.5 for n in (height, width))
    return _stretched(_stretched(paper, rows).T, columns).T


def _stretched(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows [n, W] interpolated linearly at `places` [m] -> float32 [m, W]."""
    places = np.clip(places, 0, len(values) - 1)
    below = places.astype(int)
    above, weight = np.minimum(below + 1, len(values) - 1), (places - below)[:, None].astype(np.float32)
    return values[below] * (1 - weight) + values[above] * weight
