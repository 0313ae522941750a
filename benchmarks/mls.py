"""Time of one 512 x 512 backward map, ours against the paper's formulas in vectorised NumPy: `python -m benchmarks.mls`.

Both run on one core, in one process, in turn; the best of the repetitions counts.
The NumPy map needs 1.2 GB of memory for 64 points.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from src.data.mls import backward_map, control_points

SIZE = (512, 512)
REPEATS = 5


def numpy_map(size: tuple[int, int], p: np.ndarray, q: np.ndarray, kind: str) -> np.ndarray:
    """Schaefer et al. 2006, Equations 5, 6 and 8, for all pixels and points at once, float64 [H, W, 2]."""
    y, x = np.mgrid[: size[0], : size[1]]
    v = np.stack([x, y], -1).reshape(-1, 1, 2).astype(np.float64)  # => [HW, 1, 2]
    with np.errstate(divide="ignore"):
        w = 1 / ((q - v) ** 2).sum(-1, keepdims=True)  # => [HW, n, 1]
    w = np.minimum(w, 1e12)  # at a control point
    total = w.sum(1, keepdims=True)
    q_star, p_star = (w * q).sum(1, keepdims=True) / total, (w * p).sum(1, keepdims=True) / total  # => [HW, 1, 2]
    qh, ph, d = q - q_star, p - p_star, v - q_star
    if kind == "affine":
        m = np.linalg.solve(np.einsum("vni,vnj->vij", w * qh, qh), np.einsum("vni,vnj->vij", w * qh, ph))
        return (d @ m + p_star).reshape(*size, 2)
    dot = (w * qh * ph).sum((1, 2))
    cross = (w[..., 0] * (qh[..., 0] * ph[..., 1] - qh[..., 1] * ph[..., 0])).sum(1)
    scale = np.hypot(dot, cross) if kind == "rigid" else (w * qh * qh).sum((1, 2))
    dx, dy = d[:, 0, 0], d[:, 0, 1]
    turned = np.stack([dx * dot - dy * cross, dx * cross + dy * dot], -1) / scale[:, None]
    return (turned + p_star[:, 0]).reshape(*size, 2)


def best_time(function: Callable[[], np.ndarray], repeats: int) -> float:
    """Seconds of the fastest call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"{'kind':12}{'points':>8}{'ours':>12}{'NumPy':>12}{'ratio':>8}{'largest difference':>22}")
    for count in (16, 64):
        p, q = control_points(rng, SIZE, count - 4, 0.05)
        for kind in ("affine", "similarity", "rigid"):
            difference = np.abs(backward_map(SIZE, p, q, kind) - numpy_map(SIZE, p, q, kind)).max()  # warms both up
            ours = best_time(partial(backward_map, SIZE, p, q, kind), REPEATS)
            plain = best_time(partial(numpy_map, SIZE, p, q, kind), 2)
            print(
                f"{kind:12}{count:8}{ours * 1e3:9.1f} ms{plain * 1e3:9.1f} ms{plain / ours:8.1f}{difference:19.1e} px",
                flush=True,
            )


if __name__ == "__main__":
    main()
