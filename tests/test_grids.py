"""Letters of a grid: in proportion to its tiles, and within them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from src.grids import _wrap, rows_image

FONT = ImageFont.load_default(14)
WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCMW0123456789-,.()", min_size=1, max_size=40)


@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(20, 200))
def test_lines_fit_and_nothing_is_lost(words: list[str], width: int) -> None:
    lines = _wrap(" ".join(words), width, FONT)
    assert all(lines) and "".join(lines).replace(" ", "") == "".join(words)
    assert all(FONT.getlength(line) <= width for line in lines)


def test_words_that_fit_stay_whole_and_long_ones_break_after_hyphens() -> None:
    assert _wrap("first edit, target scale 12", 120, FONT) == ["first edit, target", "scale 12"]
    assert _wrap("Deform-Noisy-Dual-0.75", 100, FONT)[0] == "Deform-Noisy-"


def test_a_sheet_looks_the_same_whatever_its_tiles() -> None:
    small, large = (rows_image([np.full((2, s, s), 200, np.uint8)] * 3, ["one", "two words", "three"]) for s in (64, 256))
    ratio = large.shape[0] / small.shape[0]
    assert 3.8 < ratio < 4.1
    ink = [(sheet < 128).any(-1).mean() for sheet in (small, large)]
    assert 0.6 < ink[0] / ink[1] < 1.7
