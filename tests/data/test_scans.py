"""Scans of real drawings: the artist's lines in grey ink on grey paper, in uneven light, with noise."""

import numpy as np
import pytest

from src.data.openmoji import drawings, render
from src.data.scans import clean_scan


def scanned(line: np.ndarray, ink: float, seed: int, noise: float = 4.0) -> np.ndarray:
    height, width = line.shape
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    light = (0.5 + 0.35 * x + 0.15 * y) * (1 - 0.6 * ((x - 0.5) ** 2 + (y - 0.5) ** 2))  # from one side, with a vignette
    paper = 215 * (ink + (1 - ink) * line / 255) * light
    return np.clip(paper + np.random.default_rng(seed).normal(0, noise, line.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("ink", "precision", "recall"), [(0.3, 0.98, 0.92), (0.7, 0.98, 0.9)])
def test_a_scan_becomes_black_lines_on_white(ink: float, precision: float, recall: float) -> None:
    for seed, drawing in enumerate(drawings()[5::400]):
        line = render(drawing, 0, 256, 0).line
        clean = clean_scan(scanned(line, ink, seed))
        found, wanted = clean < 128, line < 128
        assert (found & wanted).sum() > precision * found.sum()
        assert (found & wanted).sum() > recall * wanted.sum()
        assert (clean[line == 255] == 255).mean() > 0.995
        assert np.median(clean[line == 0]) < 32
        assert ((clean > 32) & (clean < 224)).any()  # soft edges


def test_a_clean_drawing_stays_as_it_is() -> None:
    for size, drawing in zip((64, 300, 601), drawings()[5::600], strict=False):
        line = render(drawing, 0, size, 0).line
        assert np.abs(clean_scan(line).astype(float) - line).mean() < 1
        assert (clean_scan(line)[line == 255] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 90), (64, 64), (301, 640)])
def test_blank_paper_becomes_white(shape: tuple[int, int]) -> None:
    blank = np.full(shape, 255, np.uint8)
    assert (clean_scan(blank) == 255).all()
    assert (clean_scan((blank * 0.6).astype(np.uint8)) == 255).all()
    if min(shape) > 9:
        assert (clean_scan(scanned(blank, 0.5, 0)) == 255).mean() > 0.998


def test_a_filled_area_stays_black() -> None:
    image = np.full((200, 200), 255, np.uint8)
    image[40:160, 40:160] = 20
    clean = clean_scan(image)
    assert (clean[42:158, 42:158] < 64).all() and (clean[:38] == 255).all()


@pytest.mark.parametrize("image", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)])
def test_other_scans_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        clean_scan(image)
