"""Pictures of results: rows of pairs, columns of models."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

ZOOM, GAP, INK = 2, 4, (40, 40, 40)
SMALLEST, OF_TILE = 12, 9  # letters: in pixels, and as a part of a tile's width, so that a sheet reads alike whatever its tiles


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
    size = max(SMALLEST, width // OF_TILE)
    font, line_height = ImageFont.load_default(size), size * 7 // 6
    lines = [_wrap(title, width, font) for title in titles]
    header = max((len(line) for line in lines), default=0) * line_height + (6 if titles else 0)
    margin = max(width, OF_TILE * size)
    left = margin + GAP if labels else 0
    sheet = Image.new("RGB", (left + len(columns) * (width + GAP) + GAP, header + count * (height + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for r, label in enumerate(labels):
        wrapped = _wrap(label, margin, font)
        y = header + GAP + r * (height + GAP) + height / 2 - line_height / 2 * (len(wrapped) - 1)
        for i, line in enumerate(wrapped):
            draw.text((GAP, y + i * line_height), line, INK, font, anchor="lm")
    for c, column in enumerate(columns):
        x = left + GAP + c * (width + GAP)
        for r, image in enumerate(column):
            tile = Image.fromarray(as_rgb(image)).resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (x, header + GAP + r * (height + GAP)))
        for i, line in enumerate(lines[c] if lines else ()):
            draw.text((x + width / 2, 3 + i * line_height), line, INK, font, anchor="ma")
    return np.asarray(sheet)


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    """Lines no wider than `width`: broken between words, after hyphens where a word is too long, and anywhere where it still is."""
    lines = [""]
    for word in text.split(" "):
        candidate = f"{lines[-1]} {word}".strip()
        if font.getlength(candidate) <= width:
            lines[-1] = candidate
            continue
        pieces = _pieces(word, width, font)
        lines = [*lines[:-1], *([lines[-1]] if lines[-1] else []), *pieces]
    return lines


def _pieces(word: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    pieces = []
    while font.getlength(word) > width and len(word) > 1:
        fitting = max((end for end in range(1, len(word)) if font.getlength(word[:end]) <= width), default=1)
        end = word.rfind("-", 0, fitting) + 1 or fitting
        pieces.append(word[:end])
        word = word[end:]
    return [*pieces, word]
