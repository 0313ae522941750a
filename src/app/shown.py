"""Pictures as the page shows them: enlarged, with a line of words and a bar, as HTML that holds its own pixels."""

import base64
from collections.abc import Sequence
from html import escape

import numpy as np

from src.data.images import to_png


def stage(pictures: Sequence[tuple[np.ndarray, str]], words: str, share: float | None = None) -> str:
    """Pictures uint8 [h, w, 3] with a caption each, side by side. words: what is going on. share: how much of it is done."""
    figures = "".join(
        f'<figure><img alt="{escape(caption) or "the coloured drawing"}" src="{_data(pixels)}">'
        f"{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"
        for pixels, caption in pictures
    )
    bar = "" if share is None else f'<progress value="{share:.3f}" max="1"></progress>'
    many = " many" if len(pictures) > 1 else ""
    words = f'<p class="words" role="status">{escape(words)}</p>'
    return f'<div class="stage{many}"><div class="pictures">{figures}</div>{words}{bar}</div>'


def empty(words: str) -> str:
    """The place of the pictures before there are any."""
    return f'<div class="stage"><div class="pictures none"></div><p class="words" role="status">{escape(words)}</p></div>'


def legend(colours: np.ndarray, words: Sequence[str]) -> str:
    """What the colours uint8 [n, 3] of a map mean."""
    rows = "".join(
        f'<li><span style="background: rgb({r}, {g}, {b})"></span>{escape(word)}</li>'
        for (r, g, b), word in zip(colours.tolist(), words, strict=True)
    )
    return f'<ul class="legend">{rows}</ul>'


def _data(pixels: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(to_png(pixels)).decode()}"
