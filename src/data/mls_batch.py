"""Moving least squares for a batch of images on any torch device, see `src.data.mls` for one image on one core."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from src.data.mls import COLLINEAR, checked_points


def backward_maps(
    size: tuple[int, int],
    p: np.ndarray,
    q: np.ndarray,
    kinds: Sequence[str],
    alpha: float = 1.0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """`src.data.mls.backward_map` for B images of one size: float32 [B, H, W, 2] on the device, computed in float64.

    p, q: [B, n, 2]; kinds: the kind of each image. Errors are those of `backward_map`.
    """
    checked = [checked_points(size, *ends, alpha=alpha) for ends in zip(p, q, kinds, strict=True)]
    to, at = (torch.from_numpy(np.stack(points)).to(device)[..., None, None] for points in zip(*checked, strict=True))
    affine, rigid = (torch.tensor([k == name for k in kinds], device=device)[:, None, None] for name in ("affine", "rigid"))
    y, x = (torch.arange(n, dtype=torch.float64, device=device) for n in size)
    y = y[:, None]

    # The nearest point of each pixel; all positions are relative to it, and all weights to its weight, as in `mls._fill_map`.
    nearest, kqx, kqy, kpx, kpy = (torch.full((len(to), *size), torch.inf, dtype=torch.float64, device=device) for _ in range(5))
    for i in range(at.shape[1]):
        squared = (at[:, i, 0] - x) ** 2 + (at[:, i, 1] - y) ** 2  # => [B, H, W]
        closer = squared < nearest
        nearest = torch.where(closer, squared, nearest)
        kqx, kqy = torch.where(closer, at[:, i, 0], kqx), torch.where(closer, at[:, i, 1], kqy)
        kpx, kpy = torch.where(closer, to[:, i, 0], kpx), torch.where(closer, to[:, i, 1], kpy)

    sums = torch.zeros(12, *nearest.shape, dtype=torch.float64, device=device)
    total, ax, ay, bx, by, axx, axy, ayy, axbx, axby, aybx, ayby = sums
    for i in range(at.shape[1]):
        w = nearest / ((at[:, i, 0] - x) ** 2 + (at[:, i, 1] - y) ** 2)
        if alpha != 1:
            w = w**alpha
        dqx, dqy, dpx, dpy = at[:, i, 0] - kqx, at[:, i, 1] - kqy, to[:, i, 0] - kpx, to[:, i, 1] - kpy
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
    ax, ay, bx, by = ax / total, ay / total, bx / total, by / total
    axx, axy, ayy = axx - total * ax * ax, axy - total * ax * ay, ayy - total * ay * ay
    axbx, axby, aybx, ayby = axbx - total * ax * bx, axby - total * ax * by, aybx - total * ay * bx, ayby - total * ay * by
    vx, vy = x - kqx - ax, y - kqy - ay  # v - q*

    sx, sy = axbx + ayby, axby - aybx
    scale = torch.where(rigid, torch.hypot(sx, sy), axx + ayy)
    turned = scale > 0
    fx, fy = torch.where(turned, (vx * sx - vy * sy) / scale, vx), torch.where(turned, (vx * sy + vy * sx) / scale, vy)
    determinant = axx * ayy - axy * axy
    fits = affine & (determinant > (COLLINEAR * (axx + ayy)) ** 2)
    ux, uy = (vx * ayy - vy * axy) / determinant, (vy * axx - vx * axy) / determinant
    fx, fy = torch.where(fits, ux * axbx + uy * aybx, fx), torch.where(fits, ux * axby + uy * ayby, fy)
    met = nearest == 0
    return torch.stack([torch.where(met, kpx, kpx + bx + fx), torch.where(met, kpy, kpy + by + fy)], -1).float()


def folded_shares(maps: Tensor) -> Tensor:
    """`src.data.mls.folded_share` of backward maps [B, H, W, 2] -> float64 [B]."""
    by_y, by_x = torch.gradient(maps.double(), dim=(1, 2))
    return (by_x[..., 0] * by_y[..., 1] - by_x[..., 1] * by_y[..., 0] <= 0).double().mean((1, 2))


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """`src.data.mls.warp` of uint8 [B, h, w, C] by maps [B, H, W, 2] -> uint8 [B, H, W, C], to one grey level."""
    _, height, width, _ = images.shape
    last = torch.tensor([width - 1, height - 1], device=maps.device)
    places = maps.double().clamp(torch.zeros_like(last), last)
    x0, y0 = places.long().unbind(-1)
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    tx, ty = (places - places.floor()).unbind(-1)
    rows = torch.arange(len(images), device=maps.device)[:, None, None]
    top = torch.lerp(images[rows, y0, x0].double(), images[rows, y0, x1].double(), tx[..., None])
    bottom = torch.lerp(images[rows, y1, x0].double(), images[rows, y1, x1].double(), tx[..., None])
    return (torch.lerp(top, bottom, ty[..., None]) + 0.5).to(torch.uint8)
