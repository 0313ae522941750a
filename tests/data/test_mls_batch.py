"""The batch gives what one image on one core gives, which `test_mls` holds against the paper."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.data import mls
from src.data.mls import KINDS, backward_map, control_points, folded_share
from src.data.mls_batch import backward_maps, folded_shares, warp
from tests.data.test_mls import paper

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
SIZE = (11, 14)
quick = settings(max_examples=20, deadline=None)


def several(seed: int, images: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Control points [B, n, 2], some of the targets on pixel centres, some outside the image."""
    rng = np.random.default_rng(seed)
    q = rng.uniform(-3, 16, (images, count, 2))
    on_grid = rng.uniform(size=(images, count)) < 0.3
    q[on_grid] = np.rint(q[on_grid])
    return q + rng.normal(0, 2, q.shape), q


@pytest.mark.parametrize("device", DEVICES)
@quick
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(4, 20), alpha=st.sampled_from([0.5, 1.0, 1.7]))
def test_it_is_the_papers_formula_in_float64(device: str, seed: int, count: int, alpha: float) -> None:
    p, q = several(seed, 3, count)
    for points in q:
        assume(len(np.unique(points, axis=0)) == count)
        along, across = np.linalg.svd(points - points.mean(0), compute_uv=False)
        assume(across > 0.05 * along)
    maps = backward_maps(SIZE, p, q, KINDS, alpha, device).cpu()
    assert (maps.dtype, maps.shape) == (torch.float32, (3, *SIZE, 2))
    for b, kind in enumerate(KINDS):
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                expected, share = paper(np.array([x, y], float), q[b], p[b], kind, alpha)
                if share > 1e-6:
                    assert maps[b, y, x].numpy() == pytest.approx(expected, abs=1e-3, rel=1e-6)


@pytest.mark.parametrize("device", DEVICES)
def test_large_images_and_degenerate_points_are_those_of_one_core(device: str) -> None:
    rng = np.random.default_rng(0)
    size = (200, 320)
    drawn = [control_points(rng, size, 12, 0.2) for _ in KINDS]
    # A point that nearly is a pixel centre, and one that is.
    for _, q in drawn:
        q[5], q[6] = [100 + 1e-9, 50], [20, 30]
    p, q = (np.stack(ends) for ends in zip(*drawn, strict=True))
    maps = backward_maps(size, p, q, KINDS, device=device).cpu().numpy()
    for b, kind in enumerate(KINDS):
        assert np.abs(maps[b] - backward_map(size, p[b], q[b], kind)).max() < 1e-3
        assert np.array_equal(maps[b, 30, 20], p[b, 6].astype(np.float32))
    flat = np.full((1, 2, 2), 3.0)
    apart = np.array([[[1.25, 1.0], [7.5, 5.0]]])
    zero_sum = backward_maps(SIZE, flat, apart, ["rigid"], device=device)[0].cpu().numpy()
    assert np.abs(zero_sum - backward_map(SIZE, flat[0], apart[0], "rigid")).max() < 1e-3


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_is_its_images_one_by_one(device: str) -> None:
    p, q = several(5, 3, 9)
    together = backward_maps(SIZE, p, q, KINDS, device=device)
    for b, kind in enumerate(KINDS):
        assert torch.equal(together[b], backward_maps(SIZE, p[b : b + 1], q[b : b + 1], [kind], device=device)[0])


@pytest.mark.parametrize("device", DEVICES)
def test_folds_and_samples_are_those_of_one_core(device: str) -> None:
    rng = np.random.default_rng(1)
    size = (60, 45)
    p, q = (np.stack(ends) for ends in zip(*[control_points(rng, size, 8, 0.5) for _ in KINDS], strict=True))
    maps = backward_maps(size, p, q, KINDS, device=device)
    single = [backward_map(size, a, b, kind) for a, b, kind in zip(p, q, KINDS, strict=True)]
    assert folded_shares(maps).tolist() == pytest.approx([folded_share(m) for m in single], abs=2 / 2700)
    images = rng.integers(0, 256, (3, *size, 3), dtype=np.uint8)
    warped = warp(torch.from_numpy(images).to(device), maps).cpu().numpy()
    for image, backward, ours in zip(images, single, warped, strict=True):
        assert np.abs(mls.warp(image, backward).astype(int) - ours).max() <= 1


def test_wrong_points_are_refused() -> None:
    p, q = several(0, 2, 5)
    with pytest.raises(ValueError, match="same"):
        backward_maps(SIZE, p, np.zeros_like(q), ["rigid", "rigid"])
    with pytest.raises(ValueError, match="kind"):
        backward_maps(SIZE, p, q, ["rigid", "projective"])
