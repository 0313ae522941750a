"""Bytes to arrays and back. Nothing here trusts its input."""

import functools
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from src.files import UserError

MAX_PIXELS = 64_000_000
MAX_BYTES = 512 * 2**20
# Pillow reads more formats, some of them (EPS) by running other programs.
READ = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")
WRITTEN = ("png", "jpg", "webp")  # the names of an image's member in a sample, which say its format
# A JPEG is decoded at a fraction that leaves this many times the pixels that are wanted: 47 dB or more from a whole decoding.
MARGIN = 1.25
FITS = ("pad", "crop", "squeeze", "longest", "shorter")
# Its remarks on odd files (large, cut off, with broken tags) are either an ImageError here or of no consequence.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(UserError):
    """Bytes that are no usable image; the message says why."""


def to_png(array: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3] as PNG; the same array always gives the same bytes."""
    return encode(array, "png")


def encode(array: np.ndarray, format: str, quality: int = 95) -> bytes:
    """uint8 [H, W] or [H, W, 3] as one of WRITTEN; the same array always gives the same bytes.

    quality: 1 to 100, of jpg (its colours at full resolution, as lines need) and of webp (100 = lossless). png is lossless.
    """
    options: dict[str, dict[str, Any]] = {
        "png": {"format": "PNG", "compress_level": 6},
        "jpg": {"format": "JPEG", "quality": quality, "subsampling": "4:4:4"},
        "webp": {"format": "WEBP", "quality": quality, "lossless": quality == 100, "method": 4},
    }
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, **options[format])
    return buffer.getvalue()


def image_in(sample: Mapping[str, bytes]) -> bytes:
    """The encoded image of a sample, whichever of WRITTEN its format is. ImageError if it has none."""
    for format in WRITTEN:
        if format in sample:
            return sample[format]
    raise ImageError(f"no image in a sample of {', '.join(sample) or 'nothing'}")


def from_bytes(data: bytes, mode: str = "RGB") -> np.ndarray:
    """An encoded image as uint8 [H, W, 3] (`RGB`) or [H, W] (`L`): its first frame, upright as EXIF says, in sRGB, on white.

    ImageError if it is none, or has more than MAX_PIXELS.
    """
    with _one_error():
        image = _opened(data)
        profile = image.info.get("icc_profile")
        return np.asarray(_in_srgb(_plain(image), profile).convert(mode))


def fitted(
    data: bytes,
    size: int,
    fit: str,
    *,
    padding: str = "#ffffff",
    min_side: int = 1,
    like: tuple[int, int] | None = None,
    mode: str = "RGB",
) -> tuple[np.ndarray, tuple[int, int]]:
    """An encoded image at the size of training, as from_bytes gives it, and its own upright (width, height).

    fit: to size x size by `pad` (whole, on `padding`), `crop` (its middle) or `squeeze` (its proportions are lost); or with its
    proportions, its `longest` or `shorter` side being `size`. like: the (width, height) of another image, whose place this one
    takes. ImageError if it is none, has more than MAX_PIXELS before or after, or a side below min_side.
    """
    if fit not in FITS:
        raise UserError(f"There is no fit {fit!r}. There are: {', '.join(FITS)}.")
    with _one_error():
        image = _opened(data)
        own, profile = image.size, image.info.get("icc_profile")
        _draft(image, _enlargement(like or own, size, fit))
        image = _plain(image)
        if (own[0] - own[1]) * (image.width - image.height) < 0:  # EXIF turned it
            own = own[::-1]
        if min(own) < min_side:
            raise ImageError(f"its shorter side has {min(own)} pixels, fewer than {min_side}")
        image = _placed(image, like or own, size, fit)
        image = _in_srgb(image, profile).convert(mode)
        if fit == "pad" and image.size != (size, size):
            canvas = Image.new(mode, (size, size), padding)
            canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
            image = canvas
        return np.asarray(image), own


def _enlargement(whole: tuple[int, int], size: int, fit: str) -> float:
    """By how much the side that grows most (shrinks least) is enlarged."""
    return size / (max(whole) if fit in {"pad", "longest"} else min(whole))


def _draft(image: Image.Image, enlargement: float) -> None:
    """Has a JPEG decoded at 1/2, 1/4 or 1/8 where MARGIN allows it."""
    if image.format in {"JPEG", "MPO"}:
        wanted = tuple(max(1, round(MARGIN * side * enlargement)) for side in image.size)
        image.draft(None, wanted)  # type: ignore[arg-type]


def _placed(image: Image.Image, whole: tuple[int, int], size: int, fit: str) -> Image.Image:
    """The image (its proportions those of `whole`) resized by `fit`, without padding."""
    width, height = whole
    box = (0.0, 0.0, float(image.width), float(image.height))
    if fit == "squeeze":
        target = (size, size)
    elif fit == "crop":
        target, side = (size, size), min(whole)
        across, down = side / width * image.width, side / height * image.height
        left, top = (image.width - across) / 2, (image.height - down) / 2
        box = (left, top, left + across, top + down)
    else:
        scale = _enlargement(whole, size, fit)
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if target[0] * target[1] > MAX_PIXELS:
        raise ImageError(f"it would become {target[0]} x {target[1]} pixels, more than {MAX_PIXELS} in all")
    return image.resize(target, Image.Resampling.LANCZOS, box, reducing_gap=3.0)


@contextmanager
def _one_error() -> Iterator[None]:
    """Pillow raises many kinds of errors for broken files, some with the names of Python objects in them."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not a readable image (no known format)") from None
    except Image.DecompressionBombError as error:
        size = re.search(r"\d+", str(error))
        raise ImageError(f"the image has {size[0] if size else 'too many'} pixels, more than {MAX_PIXELS} in all") from None
    except Exception as error:
        text = str(error).strip()
        plain = re.fullmatch(r"[\w ,.:()/-]+", text) and isinstance(error, OSError | SyntaxError | ValueError)
        raise ImageError(f"not a readable image ({text if plain else 'its data is broken'})") from error


def _opened(data: bytes) -> Image.Image:
    """The image, its header read and no pixel decoded."""
    if not data:
        raise ImageError("not a readable image (the file is empty)")
    image = Image.open(io.BytesIO(data), formats=READ)
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"the image has {image.width} x {image.height} pixels, more than {MAX_PIXELS} in all")
    return image


def _plain(image: Image.Image) -> Image.Image:
    """The first frame, decoded and upright, with 8 bits a channel and no transparency: RGB, L or CMYK."""
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # broken tags say nothing of the pixels
        image = image.copy()
    if image.mode[0] in "IF":
        image = _eight_bits(image)
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.new("RGBA", rgba.size, "white")
        image.alpha_composite(rgba)
        return image.convert("RGB")
    if image.mode == "1":
        return image.convert("L")
    return image if image.mode in {"L", "RGB", "CMYK"} else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The high byte of 16-bit values, which Pillow itself takes of colours and clips at 255 for greys; floats from 0 to 1."""
    values = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError("its pixels are floating-point numbers outside 0 to 1")
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError("its pixels are integers outside 0 to 65535")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The colours that its ICC profile means, in sRGB. A profile that is broken, or of another kind of image, is ignored."""
    transform = _to_srgb(profile, image.mode) if profile else None
    if transform is None:
        return image
    from PIL import ImageCms

    return ImageCms.applyTransform(image, transform) or image


@functools.lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> Any:
    from PIL import ImageCms

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(own):
            return None
        return ImageCms.buildTransform(own, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None


def working_size(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    """Sides near `height : width` whose shorter one is `size`, both multiples of `multiple` (what the network halves down)."""
    scale = size / min(height, width)
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [height, width(, 3)], filtered so that thin lines fade and do not break."""
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))


def array_bytes(array: np.ndarray) -> bytes:
    """An array in the .npy format, never pickled."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from(data: bytes) -> np.ndarray:
    """The array that array_bytes wrote. ValueError for anything else, pickled objects among it."""
    start = 10 + int.from_bytes(data[8:10], "little")
    dtype, shape = _header(data[:start])
    return np.frombuffer(bytearray(memoryview(data)[start:]), dtype).reshape(shape)  # an array that may be written to


@functools.lru_cache(maxsize=64)
def _header(header: bytes) -> tuple[np.dtype, tuple[int, ...]]:
    """Type and shape. Parsing takes longer than reading a small array, and the rows of a column have the same header."""
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another version of the .npy format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or dtype.hasobject:
        raise ValueError("an array in Fortran's order, or of Python objects")
    return dtype, shape
