"""Image deformation by moving least squares (Schaefer, McPhail and Warren, 2006)."""

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

KINDS = ("affine", "similarity", "rigid")
# Points whose spread across their main direction is below this share of the spread along it lie on one line: the moments of
# the affine fit hold squares of it, which float64 cannot tell from zero.
COLLINEAR = 1e-7
# A length below this has squares that float64 does not hold in full.
TINY = 1e-140
# Candidates for each random control point and for its target.
TRIES = 16
# Radius of a random displacement, as a share of the spread, from a uniform number in [0, 1).
DISPLACEMENTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "disc": np.sqrt,  # uniform in the disc of this radius
    "normal": lambda u: np.sqrt(-2 * np.log1p(-u)),  # normal in x and in y, with this standard deviation
}
# A deformation that folds too much is drawn again, this often with the full spread, then each time with this share of the last.
FULL_TRIES, SHRINK = 4, 0.8


def backward_map(size: tuple[int, int], p: np.ndarray, q: np.ndarray, kind: str = "rigid", alpha: float = 1.0) -> np.ndarray:
    """For every output pixel centre (integer x, y) the input position (x, y), float32 [H, W, 2] in pixels.

    It is the deformation function with source points q and targets p, evaluated at the pixel; not the inverse of the one
    from p to q. At a q_i it is p_i exactly. A single point, and a rigid sum of zero, give a translation.

    size: (H, W); p, q: [n, 2] control points as (x, y), finite, inside the image or not, no two q alike;
    kind: `affine`, `similarity` or `rigid`; alpha: at least 0, the weights are |q_i - v|^(-2 alpha).
    ValueError for anything else, and for `affine` with fewer than three points that are not on one line.
    """
    p, q = checked_points(size, p, q, kind, alpha)
    out = np.empty((*size, 2), np.float32)
    _compiled(_fill_map)(out, *p.T.copy(), *q.T.copy(), KINDS.index(kind), float(alpha))
    return out


def deform(image: np.ndarray, p: np.ndarray, q: np.ndarray, kind: str = "rigid", alpha: float = 1.0) -> np.ndarray:
    """The image with its points p moved to q: uint8 [H, W, C] in and out, bilinear, edges replicated.

    Arguments and errors are those of `backward_map`; also ValueError for an image of another shape or type.
    """
    if image.ndim != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"the image must be uint8 [H, W, C] and not empty, not {image.dtype} {list(image.shape)}")
    return warp(image, backward_map((image.shape[0], image.shape[1]), p, q, kind, alpha))


def warp(image: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """uint8 [h, w, C] sampled at the positions of a backward map [H, W, 2] -> uint8 [H, W, C]; bilinear, edges replicated."""
    out = np.empty((*backward.shape[:2], image.shape[2]), np.uint8)
    _compiled(_sample)(out, np.ascontiguousarray(image), backward)
    return out


def control_points(
    rng: np.random.Generator, size: tuple[int, int], count: int, spread: float, displacement: str = "disc"
) -> tuple[np.ndarray, np.ndarray]:
    """Random control points p and their targets q, float64 [4 + count, 2] each, as (x, y) inside the image.

    The first four are the corners, which stay in place and the paper's margin with them. The others move by a displacement
    from DISPLACEMENTS, of the size spread * min(H, W), redrawn where two targets would come too close, then clipped.

    size: (H, W), at least 2 each; spread: at least 0. ValueError otherwise.
    """
    height, width = size
    if min(size) < 2 or count < 0 or not spread >= 0:
        raise ValueError(f"control points need sides of at least 2, count >= 0 and spread >= 0, not {size}, {count}, {spread}")
    last = np.array([width - 1.0, height - 1.0])
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * last
    p = corners
    for _ in range(count):
        candidates = rng.uniform(0, 1, (TRIES, 2)) * last
        p = np.vstack([p, candidates[_clearance(candidates, p).argmax()]])
    gap = min(float(_clearance(p[i : i + 1], p[:i])[0]) for i in range(1, len(p))) / 2
    q = corners
    for point in p[4:]:
        radius = spread * min(size) * DISPLACEMENTS[displacement](rng.uniform(0, 1, TRIES))
        angle = rng.uniform(0, 2 * np.pi, TRIES)
        targets = np.clip(point + np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), 0, last)
        clearance = _clearance(targets, q)
        # argmax of booleans is the first that is clear enough, so the displacement stays uniform where there is room.
        clear = clearance >= gap
        q = np.vstack([q, targets[clear.argmax() if clear.any() else clearance.argmax()]])
    return p, q


def draws(
    rng: np.random.Generator, size: tuple[int, int], count: int, spread: float, displacement: str = "disc"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Control points to choose from, without end: take the first that fold little enough. The spread falls to zero with time."""
    for attempt in itertools.count():
        yield control_points(rng, size, count, spread * SHRINK ** max(0, attempt - FULL_TRIES + 1), displacement)


def random_map(
    rng: np.random.Generator,
    size: tuple[int, int],
    kind: str,
    count: int,
    spread: float,
    displacement: str = "disc",
    max_folded: float = 0.0,
) -> np.ndarray:
    """The backward map [H, W, 2] of the first of `draws` whose folded share is at most `max_folded`. ValueError as there."""
    maps = (backward_map(size, p, q, kind) for p, q in draws(rng, size, count, spread, displacement))
    return next(backward for backward in maps if folded_share(backward) <= max_folded)


def folded_share(backward: np.ndarray) -> float:
    """The share of pixels at which the Jacobian determinant of a backward map [H, W, 2] is <= 0; H and W at least 2.

    Derivatives are central differences, one-sided at the border.
    """
    return _compiled(_folds)(backward) / (backward.shape[0] * backward.shape[1])


def _clearance(candidates: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The distance of each candidate [m, 2] to the nearest of the points [n, 2]."""
    distances: np.ndarray = np.linalg.norm(candidates[:, None] - points, axis=-1)  # => [m, n]
    return distances.min(1)  # => [m]


def checked_points(size: tuple[int, int], p: np.ndarray, q: np.ndarray, kind: str, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The control points as float64 [n, 2]."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size must be (H, W), at least 1 each, not {size}")
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and at least 0, not {alpha}")
    if p.shape != q.shape or p.ndim != 2 or p.shape[1] != 2:
        raise ValueError(f"p and q must both be [n, 2], not {list(p.shape)} and {list(q.shape)}")
    if not len(q):
        raise ValueError("there must be at least one control point")
    if not (np.isfinite(p).all() and np.isfinite(q).all()):
        raise ValueError("control points must be finite")
    if len(np.unique(q, axis=0)) < len(q):
        raise ValueError("two target points q are the same; each may be given once")
    if kind == "affine":
        along, across = np.linalg.svd(q - q.mean(0), compute_uv=False) if len(q) > 1 else (0.0, 0.0)
        if across <= COLLINEAR * along:
            raise ValueError("affine deformation needs three target points q that are not on one line")
    return p, q


@functools.cache
def _compiled(function: Callable[..., None]) -> Callable[..., Any]:
    """The function as machine code, kept on disk. Numba is imported here, as most users of the module need no map."""
    import numba

    # Sums may be reordered, so that they are vectorised over the points. Infinities and NaN keep their meaning.
    return numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})(function)


def _fill_map(out: np.ndarray, px: np.ndarray, py: np.ndarray, qx: np.ndarray, qy: np.ndarray, kind: int, alpha: float) -> None:
    """Equations 5, 6 and 8 of the paper at every pixel, with points of the plane as complex numbers.

    With qh = q - q* and ph = p - p*, the similarity is f(v) = p* + (v - q*) s / sum w |qh|^2, where s = sum w conj(qh) ph, and
    the rigid deformation f(v) = p* + (v - q*) s / |s|. The affine one is f(v) = p* + (v - q*) M.

    All positions are taken relative to the nearest q_k and its p_k, and weights relative to its weight. The nearest point has
    the largest weight, so the moments about it are at most n + 1 times those about the centroid: one pass over the points
    gives both without loss, and a pixel very close to q_k is as exact as any other.
    """
    count = len(qx)
    distance = np.empty(count)  # squared
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            for i in range(count):
                distance[i] = (qx[i] - x) ** 2 + (qy[i] - y) ** 2
            k = 0
            for i in range(1, count):
                if distance[i] < distance[k]:
                    k = i
            nearest, kqx, kqy, kpx, kpy = distance[k], qx[k], qy[k], px[k], py[k]
            if nearest == 0.0:
                out[y, x, 0], out[y, x, 1] = kpx, kpy
                continue
            if alpha == 1.0:
                for i in range(count):
                    distance[i] = nearest / distance[i]
            else:
                for i in range(count):
                    distance[i] = (nearest / distance[i]) ** alpha
            total = ax = ay = bx = by = axx = axy = ayy = axbx = axby = aybx = ayby = 0.0
            for i in range(count):
                w, dqx, dqy, dpx, dpy = distance[i], qx[i] - kqx, qy[i] - kqy, px[i] - kpx, py[i] - kpy
                wx, wy = w * dqx, w * dqy
                total += w
                ax += wx
                ay += wy
                bx += w * dpx
                by += w * dpy
                axx += wx * dqx
                axy += wx * dqy
                ayy += wy * dqy
                axbx += wx * dpx
                axby += wx * dpy
                aybx += wy * dpx
                ayby += wy * dpy
            # From here on: centroids, and moments about them.
            ax, ay, bx, by = ax / total, ay / total, bx / total, by / total
            axx, axy, ayy = axx - total * ax * ax, axy - total * ax * ay, ayy - total * ay * ay
            axbx, axby = axbx - total * ax * bx, axby - total * ax * by
            aybx, ayby = aybx - total * ay * bx, ayby - total * ay * by
            vx, vy = x - kqx - ax, y - kqy - ay  # v - q*
            determinant = axx * ayy - axy * axy
            if kind == 0 and determinant > (COLLINEAR * (axx + ayy)) ** 2:
                ux, uy = (vx * ayy - vy * axy) / determinant, (vy * axx - vx * axy) / determinant
                fx, fy = ux * axbx + uy * aybx, ux * axby + uy * ayby
            else:  # also where steep weights leave the affine fit two points: the similarity is still defined there
                sx, sy = axbx + ayby, axby - aybx
                scale = axx + ayy
                if kind == 2:
                    scale = math.sqrt(sx * sx + sy * sy)
                    if scale < TINY:  # slower, but the squares may have vanished
                        scale = math.hypot(sx, sy)
                if scale > 0.0:
                    fx, fy = (vx * sx - vy * sy) / scale, (vx * sy + vy * sx) / scale
                else:
                    fx, fy = vx, vy
            out[y, x, 0], out[y, x, 1] = kpx + bx + fx, kpy + by + fy


def _folds(backward: np.ndarray) -> int:
    """The number of pixels at which the determinant is <= 0. Differences need no division: their signs decide."""
    height, width, _ = backward.shape
    count = 0
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            xx = np.float64(backward[y, right, 0]) - backward[y, left, 0]
            xy = np.float64(backward[y, right, 1]) - backward[y, left, 1]
            yx = np.float64(backward[below, x, 0]) - backward[above, x, 0]
            yy = np.float64(backward[below, x, 1]) - backward[above, x, 1]
            count += xx * yy - xy * yx <= 0
    return count


def _sample(out: np.ndarray, image: np.ndarray, backward: np.ndarray) -> None:
    """Bilinear samples of uint8 [h, w, C] at the positions [H, W, 2], which are clamped to the image."""
    height, width, channels = image.shape
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            sx = min(max(float(backward[y, x, 0]), 0.0), width - 1.0)
            sy = min(max(float(backward[y, x, 1]), 0.0), height - 1.0)
            x0, y0 = int(sx), int(sy)
            x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
            tx, ty = sx - x0, sy - y0
            for c in range(channels):
                top = image[y0, x0, c] * (1 - tx) + image[y0, x1, c] * tx
                bottom = image[y1, x0, c] * (1 - tx) + image[y1, x1, c] * tx
                out[y, x, c] = int(top * (1 - ty) + bottom * ty + 0.5)
