"""Bytes to arrays and back. Nothing here trusts its input."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from src.files import UserError

MAX_PIXELS = 64_000_000


class ImageError(UserError):
    """Bytes that are no usable image; the message says why."""


def to_png(array: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3] as PNG; the same array always gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def from_bytes(data: bytes, mode: str = "RGB") -> np.ndarray:
    """An encoded image as uint8 [H, W, 3] (`RGB`) or [H, W] (`L`), upright as its EXIF says; transparency becomes white.

    ImageError if it is none, or has more than MAX_PIXELS.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"the image has {image.width} x {image.height} pixels, more than {MAX_PIXELS} in all")
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # Pillow would clip its values at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.new("RGBA", rgba.size, "white")
            image.alpha_composite(rgba)
        return np.asarray(image.convert(mode))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not a readable image (no known format)") from None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise ImageError(f"not a readable image ({error})") from error


def array_bytes(array: np.ndarray) -> bytes:
    """An array in the .npy format, never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)
