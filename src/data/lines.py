"""Line extraction: extended difference of Gaussians (Winnemoeller, Kyprianidis and Olsen, 2012)."""

import numpy as np
from scipy.ndimage import gaussian_filter

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def xdog(
    color: np.ndarray, sigma: float = 0.7, k: float = 1.6, p: float = 20.0, epsilon: float = -0.1, phi: float = 1.0
) -> np.ndarray:
    """The line drawing of an image, uint8 [H, W] from uint8 RGB [H, W, 3]: 0 = line, 255 = none, soft between.

    sigma: standard deviation of the finer Gaussian in pixels, about a third of the width of the lines to find; k: ratio of the
    coarser one's to it, above 1; p: strength of the difference; epsilon: where the threshold lies, in luminance 0 to 1;
    phi: steepness of the threshold. The defaults are for outlines of 2 px, as in a drawing of 64 px. With epsilon below 0,
    dark areas have no fill: a flat area has no difference of Gaussians, so that it stays at its luminance, above epsilon.
    ValueError for an image of another shape or type, sigma <= 0 or k <= 1.
    """
    if color.ndim != 3 or color.shape[2] != 3 or color.dtype != np.uint8:
        raise ValueError(f"the image must be uint8 [H, W, 3], not {color.dtype} {list(color.shape)}")
    if not sigma > 0 or not k > 1:
        raise ValueError(f"sigma must be above 0 and k above 1, not {sigma} and {k}")
    luminance = color.astype(np.float32) @ LUMA / 255  # => [H, W]
    fine = gaussian_filter(luminance, sigma, mode="nearest")
    sharpened = fine + p * (fine - gaussian_filter(luminance, k * sigma, mode="nearest"))
    soft = 1 + np.tanh(phi * np.minimum(sharpened - epsilon, 0))  # 1 where sharpened >= epsilon
    return np.rint(255 * soft).astype(np.uint8)
