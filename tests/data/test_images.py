"""Pictures as cameras, scanners and drawing programs write them."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data import images
from src.data.images import ImageError, from_bytes

RED_ABOVE_BLUE = np.array([[[255, 0, 0]] * 3, [[0, 0, 255]] * 3], np.uint8)  # [2, 3, 3]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_photograph_is_turned_upright() -> None:
    image = Image.fromarray(np.rot90(RED_ABOVE_BLUE))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    assert np.array_equal(from_bytes(encoded(image, exif=exif)), RED_ABOVE_BLUE)
    assert from_bytes(encoded(image)).shape == (3, 2, 3)


def test_sixteen_bits_become_eight() -> None:
    ramp = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert from_bytes(encoded(Image.fromarray(ramp)), "L").tolist() == [[0, 1, 128, 255]]
    assert from_bytes(encoded(Image.fromarray(ramp)))[0, 2].tolist() == [128] * 3


def test_transparency_is_white_paper() -> None:
    lines = np.zeros((2, 2, 4), np.uint8)  # black lines on nothing, as drawing programs export them
    lines[0, 0, 3] = 255
    assert from_bytes(encoded(Image.fromarray(lines)), "L").tolist() == [[0, 255], [255, 255]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 0, 0, 0])
    assert from_bytes(encoded(palette, transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_what_is_no_image_or_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encoded(Image.fromarray(RED_ABOVE_BLUE))
    for data in (b"", b"hello", whole[:50]):
        with pytest.raises(ImageError, match="not a readable image"):
            from_bytes(data)
    monkeypatch.setattr(images, "MAX_PIXELS", 5)
    with pytest.raises(ImageError, match="3 x 2 pixels, more than 5"):
        from_bytes(whole)
