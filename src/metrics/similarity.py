"""How near a result is to one known picture: for self-reference runs, where the ground truth is the reference.

All functions take two batches of uint8 RGB pictures [N, H, W, 3] of one size and give one value a pair.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from src.metrics.features import batch_size, lite0_path, lite0_stages

Pictures = NDArray[np.uint8]
Values = NDArray[np.float64]

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])  # of the scales, finest first (Wang et al. 2003)
SIGMA, RADIUS = 1.5, 5  # of the Gaussian window, 11 x 11
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: Pictures, b: Pictures) -> Values:
    """Peak signal-to-noise ratio in dB -> [N]; inf for equal pictures. ValueError: other kinds or shapes."""
    _check(a, b)
    error = np.array([np.square(x.astype(np.float64) - y).mean() for x, y in zip(a, b, strict=True)])
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / error)


def scales(height: int, width: int) -> int:
    """On how many scales MS-SSIM's window of 11 pixels fits: 5 from 176 pixels on, 4 from 88, 3 from 44. 0 below 11."""
    return sum(min(height, width) >> scale > 2 * RADIUS for scale in range(len(WEIGHTS)))


def ms_ssim(a: Pictures, b: Pictures) -> Values:
    """Multi-scale structural similarity (Wang et al. 2003) -> [N], in [0, 1], 1 for equal pictures.

    The field's weights and constants; windows that lie inside the picture; each scale's value is the mean over positions and RGB
    channels, and one below 0 counts as 0. Small pictures have fewer than five scales (`scales`), with the first weights divided by
    their sum: values of pictures with different numbers of scales cannot be compared.
    ValueError: other kinds or shapes, or a side under 11 pixels.
    """
    _check(a, b)
    count = scales(*a.shape[1:3])
    if not count:
        raise ValueError(f"MS-SSIM needs pictures of at least {2 * RADIUS + 1} pixels a side, got {list(a.shape[1:3])}.")
    weights = WEIGHTS[:count] / WEIGHTS[:count].sum()
    return np.array([_ms_ssim(x.astype(np.float64), y.astype(np.float64), weights) for x, y in zip(a, b, strict=True)])


def perceptual(path: str | Path | None = None, device: str = "cpu") -> Callable[[Pictures, Pictures], Values]:
    """A perceptual distance in the manner of LPIPS (Zhang et al. 2018), of EfficientNet-Lite0: (a, b) -> [N], in [0, 4].

    The maps of the network's five strides, each position's channels at unit length; the squared difference, summed over channels,
    averaged over positions and over stages. It is not LPIPS: another network, and no channel weights fitted to people's judgement.
    Name it PD-EffNet; its numbers can be held against no published ones. The pictures are seen at 224 x 224.
    path: the weights' file, see `features.lite0_path`. FeaturesUnavailable: they are not here.
    """
    import torch
    from torch.nn.functional import normalize

    stages = lite0_stages(lite0_path(path), device)

    def distance(a: Pictures, b: Pictures) -> Values:
        _check(a, b)
        values = np.empty(len(a))
        for start in range(0, len(a), batch_size(device)):
            part = slice(start, start + batch_size(device))
            with torch.inference_mode():
                maps = zip(stages(torch.tensor(a[part])), stages(torch.tensor(b[part])), strict=True)
                apart = [(normalize(x, dim=1) - normalize(y, dim=1)).square().sum(1).mean((1, 2)) for x, y in maps]
                values[part] = torch.stack(apart).mean(0).cpu().numpy()
        return values

    return distance


def _ms_ssim(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    value = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            x, y = _halved(x), _halved(y)
        mean_x, mean_y = _windows(x), _windows(y)
        variances = _windows(x * x) - mean_x**2 + _windows(y * y) - mean_y**2
        part = (2 * (_windows(x * y) - mean_x * mean_y) + C2) / (variances + C2)  # contrast and structure
        if scale == len(weights) - 1:  # luminance counts at the coarsest scale alone
            part = part * (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
        value *= max(float(part.mean()), 0.0) ** weight
    return value


def _windows(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian mean of each window inside x [H, W, 3]."""
    return gaussian_filter(x, SIGMA, radius=RADIUS, axes=(0, 1))[RADIUS:-RADIUS, RADIUS:-RADIUS]


def _halved(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of 2 x 2 pixels; an odd row or column at the end is left out."""
    height, width = x.shape[0] // 2, x.shape[1] // 2
    return x[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1).mean((1, 3))


def _check(a: Pictures, b: Pictures) -> None:
    if a.shape != b.shape or a.ndim != 4 or a.shape[3] != 3 or not a.dtype == b.dtype == np.uint8:
        raise ValueError(
            f"Two batches of uint8 [N, H, W, 3] are needed, got {a.dtype} {list(a.shape)} and {b.dtype} {list(b.shape)}."
        )
