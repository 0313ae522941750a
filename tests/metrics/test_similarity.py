from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from src.metrics import features
from src.metrics.features import FeaturesUnavailable, lite0_path, lite0_stages
from src.metrics.similarity import WEIGHTS, ms_ssim, perceptual, psnr, scales
from tests.metrics.test_features import drawing


def drawings(count: int, size: int = 64) -> np.ndarray:
    return np.stack([drawing(i, size=size) for i in range(count)])


def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, images.shape)
    return (images + noise).clip(0, 255).round().astype(np.uint8)


def blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(images.astype(float), (0, sigma, sigma, 0)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def distance():
    return perceptual()


def tensors(*images: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(x).permute(0, 3, 1, 2).double() for x in images]


def test_known_ratios():
    black = np.zeros((3, 4, 5, 3), np.uint8)
    other = black.copy()
    other[0], other[1] = 255, 1
    np.testing.assert_allclose(psnr(black, other), [0, 20 * np.log10(255), np.inf])
    a = drawings(3)
    b = noisy(a, 20)
    theirs = peak_signal_noise_ratio(*tensors(a, b), data_range=255.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(psnr(a, b), theirs)


@pytest.mark.parametrize(
    ("side", "count"), [(10, 0), (11, 1), (21, 1), (22, 2), (43, 2), (44, 3), (64, 3), (88, 4), (176, 5), (512, 5)]
)
def test_the_window_fits_on_the_coarsest_scale(side, count):
    assert scales(side, 600) == scales(600, side) == count


@pytest.mark.parametrize(("size", "count"), [(16, 1), (65, 3), (96, 4), (180, 5)])
def test_ms_ssim_is_made_of_torchmetrics_parts(size, count):
    """Its own MS-SSIM counts windows beyond the border on the coarsest scale, and refuses small pictures."""
    ssim = partial(structural_similarity_index_measure, data_range=255.0, reduction="none")
    a = drawings(2, size)
    b = np.concatenate([noisy(a[:1], 60), a[:1]])  # the second is another drawing
    x, y = tensors(a, b)
    parts = []
    for _ in range(count - 1):
        parts.append(ssim(x, y, return_contrast_sensitivity=True)[1])
        x, y = (torch.nn.functional.avg_pool2d(z, 2) for z in (x, y))
    maps = ssim(x, y, return_full_image=True)[1]
    parts.append(maps[..., 5:-5, 5:-5].mean((1, 2, 3)))
    weights = WEIGHTS[:count] / WEIGHTS[:count].sum()
    expected = np.prod([part.clamp(0).numpy() ** weight for part, weight in zip(parts, weights, strict=True)], axis=0)
    np.testing.assert_allclose(ms_ssim(a, b), expected, rtol=1e-6)


def test_an_inverted_picture_has_no_similarity():
    a = drawings(3)
    assert (ms_ssim(a, a) == 1).all()
    assert (ms_ssim(a, 255 - a) == 0).all()


def test_the_perceptual_distance_is_what_it_says(distance, monkeypatch):
    a = drawings(3)
    b = noisy(a, 30)
    stages = lite0_stages(lite0_path(), "cpu")
    maps = [[m.double().numpy() for m in stages(torch.from_numpy(images))] for images in (a, b)]
    assert [m.shape[1:] for m in maps[0]] == [(16, 112, 112), (24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]
    cosines = [(x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1) for x, y in zip(*maps, strict=True)]
    expected = np.mean([(2 - 2 * cosine).mean((1, 2)) for cosine in cosines], axis=0)
    monkeypatch.setattr(features, "BATCH", 2)
    values = distance(a, b)
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    assert values.shape == (3,) and values.dtype == np.float64
    assert (distance(a, a) == 0).all()


def test_worse_is_farther(distance):
    a = drawings(3)
    for harm, amounts in ((noisy, (5, 80)), (blurred, (0.5, 3))):
        steps = [harm(a, amount) for amount in amounts]
        assert (np.diff([psnr(a, b) for b in steps], axis=0) < 0).all()
        assert (np.diff([ms_ssim(a, b) for b in steps], axis=0) < 0).all()
        assert (np.diff([distance(a, b) for b in steps], axis=0) > 0).all()


def test_a_moved_drawing_is_nearer_than_another_one(distance):
    a = drawings(4)
    moved = np.stack([drawing(i, shift=2) for i in range(4)])
    assert (distance(a, moved) < distance(a, np.roll(a, 1, axis=0))).all()


@pytest.mark.parametrize("wrong", [np.zeros((2, 16, 16, 3)), np.zeros((1, 16, 16, 3), np.uint8), np.zeros((2, 16, 16), np.uint8)])
def test_what_cannot_be_compared(distance, wrong):
    good = np.zeros((2, 16, 16, 3), np.uint8)
    for function in (psnr, ms_ssim, distance):
        with pytest.raises(ValueError, match="uint8"):
            function(good, wrong)


def test_too_small_and_missing(tmp_path):
    small = np.zeros((1, 10, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ms_ssim(small, small)
    with pytest.raises(FeaturesUnavailable, match=r"gone\.pth"):
        perceptual(tmp_path / "gone.pth")
