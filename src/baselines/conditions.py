"""What adapters are shown of a sketch: float32 [N, 3, h, w] in [0, 1], white lines on black, as their annotators draw them.

A public annotator finds lines in a photograph. A sketch has them already, so that nothing but the scale and the sign is left to do.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from src.files import UserError


def lineart(sketches: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Of sketches uint8 [N, H, W] with black lines on white; size: height and width to show them at."""
    lines = 1 - torch.from_numpy(np.ascontiguousarray(sketches))[:, None].float() / 255
    if lines.shape[2:] != size:
        lines = F.interpolate(lines, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    return lines.expand(-1, 3, -1, -1)


def canny(sketches: np.ndarray, size: tuple[int, int], thresholds: tuple[float, float] = (100, 200)) -> Tensor:
    """Canny's edges, 0 or 1, one pixel wide at `size`: both sides of a wider line. thresholds: of gradients, low and high."""
    try:
        import cv2
    except ImportError:
        raise UserError("Canny edges need the package opencv-python-headless: pip install -e '.[baselines]'.") from None
    shown = (255 - 255 * lineart(sketches, size)[:, 0]).round().byte().numpy()
    edges = np.stack([cv2.Canny(sketch, *thresholds) for sketch in shown])
    return torch.from_numpy(edges)[:, None].float().div(255).expand(-1, 3, -1, -1)


CONDITIONS = {"lineart": lineart, "lineart_anime": lineart, "canny": canny}


def condition_of(name: str, sketches: np.ndarray, size: tuple[int, int]) -> Tensor:
    """A condition by its name in conf/weights. UserError for an unknown one."""
    if name not in CONDITIONS:
        raise UserError(f"A control's condition is {name!r}; it must be one of {', '.join(CONDITIONS)}.")
    return CONDITIONS[name](sketches, size)
