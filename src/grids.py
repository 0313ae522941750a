"""Pictures of results: rows of pairs, columns of models."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ZOOM, GAP, INK = 2, 4, (40, 40, 40)


def as_rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image


def rows_image(
    columns: Sequence[np.ndarray], titles: Sequence[str] = (), zoom: int = ZOOM, labels: Sequence[str] = ()
) -> np.ndarray:
    """One row a pair, one column a list of images uint8 [N, H, W(, 3)]; titles stand above the columns, labels before the rows.

    uint8 [H', W', 3].
    """
    count, height, width = columns[0].shape[:3]
    height, width = height * zoom, width * zoom
    font = ImageFont.load_default(12)
    lines = [_wrap(title, width, font) for title in titles]
    header = max((len(line) for line in lines), default=0) * 14 + (6 if titles else 0)
    left = width + GAP if labels else 0
    sheet = Image.new("RGB", (left + len(columns) * (width + GAP) + GAP, header + count * (height + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for r, label in enumerate(labels):
        wrapped = _wrap(label, width, font)
        y = header + GAP + r * (height + GAP) + height / 2 - 7 * (len(wrapped) - 1)
        for i, line in enumerate(wrapped):
            draw.text((GAP, y + i * 14), line, INK, font, anchor="lm")
    for c, column in enumerate(columns):
        x = left + GAP + c * (width + GAP)
        for r, image in enumerate(column):
            tile = Image.fromarray(as_rgb(image)).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (x, header + GAP + r * (height + GAP)))
        for i, line in enumerate(lines[c] if lines else ()):
            draw.text((x + width / 2, 3 + i * 14), line, INK, font, anchor="ma")
    return np.asarray(sheet)


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        candidate = f"{lines[-1]} {word}".strip()
        if font.getlength(candidate) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = candidate
    return lines
