"""Region leakage: do colours keep to the regions that the sketch's lines close?

Regions come from the sketch by closing the gaps of its lines, in the manner of trapped-ball segmentation (Zhang et al. 2009), or
are the artist's own. Leakage compares the Lab variance within them with that between them.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.metrics.lines import LINE

GAP = 3.0  # pixels: the radius of the ball, which passes no gap narrower than about twice that
ONE_COLOUR = 10.0  # Lab units: a pixel of the truth that is farther from its region's median has another colour
LEAST_PIXELS = 12  # a region of fewer pixels beside its borders says little
FLOOR = 5.0  # Lab units: about twice what is just noticeable, so that a nearly uniform picture has nothing that could leak


class Regions(NamedTuple):
    """The pixels that count, by region. places: flat indices [n]; members: number of each one's region [n]; sizes: [regions]."""

    places: NDArray[np.intp]
    members: NDArray[np.intp]
    sizes: NDArray[np.intp]


def closed_regions(sketch: NDArray[np.uint8], radius: float = GAP) -> NDArray[np.int32]:
    """The regions between the lines of a sketch, uint8 [H, W], 0 = line -> int32 [H, W]: 0 = line, else a region's number.

    Where a ball of `radius` pixels fits, a region is all that it reaches without crossing a line; the pixels around fall to the
    region that reaches them first, and what no ball fits into is a region by itself. So a gap in a line joins no regions, and a
    part that is joined to the rest by a narrow passage is a region of its own, which costs little: leakage asks whether a
    region has one colour, not whether two have different ones.
    """
    from scipy.ndimage import distance_transform_edt, label, watershed_ift

    free = sketch >= LINE
    if free.all() or not free.any():
        return free.astype(np.int32)
    distance = distance_transform_edt(free)
    seeds, count = label(distance > radius, np.ones((3, 3)))
    parts, _ = label(free)
    parts[np.isin(parts, np.unique(parts[seeds > 0]))] = 0
    seeds[parts > 0] = parts[parts > 0] + count
    # Flooding from the seeds: through the middle of a passage first, through lines last.
    depth = np.rint(254 * (1 - distance / distance.max())).astype(np.uint8)
    depth[~free] = 255
    return np.where(free, watershed_ift(depth, seeds.astype(np.int32)), 0).astype(np.int32)


def artists_regions(regions: NDArray[np.uint8], line: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The regions of OpenMoji's `regions.png`, uint8 [H, W], 0 = paper, less the lines of its `line.png`: as `closed_regions`."""
    return np.where(line < LINE, 0, regions.astype(np.int32) + 1)


def of_one_colour(regions: NDArray[np.int32], truth: NDArray[np.floating]) -> NDArray[np.int32]:
    """Regions [H, W] without the pixels, now 0, that differ from their region's median colour in the ground truth, Lab [H, W, 3].

    So the truth hardly leaks: where the artist shades, or changes the colour without a line, nothing is asked of a result.
    """
    kept = regions.copy()
    for number in range(1, int(regions.max()) + 1):
        chosen = regions == number
        pixels = truth[chosen]
        if len(pixels):
            kept[chosen] *= ((pixels - np.median(pixels, axis=0)) ** 2).sum(-1) <= ONE_COLOUR**2
    return kept


def countable(regions: NDArray[np.int32]) -> Regions:
    """The pixels of regions [H, W] that count: not of 0, all 3 x 3 neighbours of the same region, LEAST_PIXELS of them in it."""
    from scipy.ndimage import maximum_filter, minimum_filter

    inside = (regions > 0) & (minimum_filter(regions, 3) == maximum_filter(regions, 3))
    inside &= (np.bincount(regions[inside], minlength=int(regions.max()) + 1) >= LEAST_PIXELS)[regions]
    _, members = np.unique(regions[inside], return_inverse=True)
    return Regions(np.flatnonzero(inside), members, np.bincount(members))


def leakage(result: NDArray[np.floating], regions: Regions) -> float:
    """How much of the deviation of a picture's colours lies within regions: in [0, 1), 0 = each region has one colour.

    result: Lab [H, W, 3], float32 or better. sqrt(W / (W + B + FLOOR^2)), with the variance W within and B between regions, over
    the pixels that count. The root makes it linear in the colour that leaks. nan: fewer than two regions.
    """
    if len(regions.sizes) < 2:
        return float("nan")
    pixels = result.reshape(-1, 3)[regions.places].astype(np.float64)  # => [n, 3]
    n = len(pixels)
    sums = np.stack([np.bincount(regions.members, channel) for channel in pixels.T], 1)  # => [regions, 3]
    square, mean = np.vdot(pixels, pixels) / n, sums.sum(0) / n
    of_means = (sums**2).sum(1) @ (1 / regions.sizes) / n
    within, total = max(square - of_means, 0.0), max(square - mean @ mean, 0.0)
    return float(np.sqrt(within / (total + FLOOR**2)))
