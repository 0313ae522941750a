"""Training at several proportions: sizes of about equally many pixels, and batches that each hold drawings of one size.

After NovelAI's aspect ratio bucketing (2022). A row belongs to the bucket whose proportions are nearest to its own.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

Size = tuple[int, int]  # height, width
STEP = 64  # a latent's sides then halve three times, as the U-Net wants
MOST_ELONGATED = 2.0


def bucket_sizes(pixels: int, step: int = STEP, elongated: float = MOST_ELONGATED) -> list[Size]:
    """All (height, width), multiples of `step`, that lie within `pixels` and cannot grow, from the flattest to the tallest.

    No side is more than `elongated` times the other. ValueError where no such size fits.
    """
    if pixels < step * step:
        raise ValueError(f"{pixels} pixels do not hold {step} x {step}")
    sizes = []
    for width in range(step, pixels // step + 1, step):
        height = pixels // width // step * step
        if (width + step) * height > pixels and max(width, height) <= elongated * min(width, height):
            sizes.append((height, width))
    if not sizes:  # coarse steps: the largest square
        side = int(pixels**0.5) // step * step
        sizes.append((side, side))
    return sorted(sizes, key=lambda size: size[0] / size[1])


def nearest(sizes: np.ndarray | Sequence[Size], buckets: Sequence[Size]) -> np.ndarray:
    """The number of the bucket whose proportions (their logarithm) are nearest to those of each (height, width): uint8 [N].

    buckets: as bucket_sizes gives them.
    """
    tall, wide = np.asarray(sizes, np.float64).reshape(-1, 2).T
    ratios = np.log([height / width for height, width in buckets])
    return np.searchsorted((ratios[1:] + ratios[:-1]) / 2, np.log(tall / wide)).astype(np.uint8)


def fill(image: np.ndarray, size: Size) -> np.ndarray:
    """An image [H, W] or [H, W, 3] resized to cover `size`, its middle cut out."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    scale = max(size[0] / height, size[1] / width)
    top, left = (height - size[0] / scale) / 2, (width - size[1] / scale) / 2
    box = (left, top, left + size[1] / scale, top + size[0] / scale)
    box = (max(0.0, box[0]), max(0.0, box[1]), min(float(width), box[2]), min(float(height), box[3]))
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS, box))
