import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.data.mls import (
    FULL_TRIES,
    KINDS,
    SHRINK,
    backward_map,
    control_points,
    deform,
    draws,
    folded_share,
    random_map,
)

SIZE = (9, 12)
quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(KINDS)


def perpendicular(v: np.ndarray) -> np.ndarray:
    return np.array([-v[1], v[0]])


def paper(v: np.ndarray, source: np.ndarray, target: np.ndarray, kind: str, alpha: float) -> tuple[np.ndarray, float]:
    """f(v) by the paper's matrices, row vectors, and the rigid sum as a share of its scale."""
    distance = ((source - v) ** 2).sum(1)
    if (distance == 0).any():
        return target[distance.argmin()], 1.0
    w = distance**-alpha
    source_star, target_star = w @ source / w.sum(), w @ target / w.sum()
    sh, th, d = source - source_star, target - target_star, v - source_star
    if kind == "affine":
        left = sum(wi * np.outer(a, a) for wi, a in zip(w, sh, strict=True))
        right = sum(wi * np.outer(a, b) for wi, a, b in zip(w, sh, th, strict=True))
        return d @ np.linalg.inv(left) @ right + target_star, 1.0
    turned = np.zeros(2)
    for wi, a, b in zip(w, sh, th, strict=True):
        a_i = wi * np.stack([a, -perpendicular(a)]) @ np.stack([d, -perpendicular(d)]).T  # Equation 7
        turned += b @ a_i
    if kind == "similarity":
        return turned / (w @ (sh**2).sum(1)) + target_star, 1.0
    length = np.linalg.norm(turned)
    scale = np.linalg.norm(d) * (w @ (np.linalg.norm(sh, axis=1) * np.linalg.norm(th, axis=1)))
    return np.linalg.norm(d) * turned / length + target_star, length / scale


def points(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random p, and q near it, some of them on pixel centres and some outside the image."""
    rng = np.random.default_rng(seed)
    q = rng.uniform(-2, 14, (count, 2))
    on_grid = rng.uniform(size=count) < 0.3
    q[on_grid] = np.rint(q[on_grid])
    assume(len(np.unique(q, axis=0)) == count)
    return q + rng.normal(0, 2, (count, 2)), q


def turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 20), kinds, st.sampled_from([0.5, 1.0, 1.7]))
def test_it_is_the_papers_formula(seed: int, count: int, kind: str, alpha: float):
    count = max(count, {"affine": 4, "similarity": 2, "rigid": 2}[kind])
    p, q = points(seed, count)
    if kind == "affine":
        along, across = np.linalg.svd(q - q.mean(0), compute_uv=False)
        assume(across > 0.05 * along)
    ours = backward_map(SIZE, p, q, kind, alpha)
    assert (ours.dtype, ours.shape) == (np.float32, (*SIZE, 2))
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            expected, share = paper(np.array([x, y], float), q, p, kind, alpha)
            if share > 1e-6:
                assert ours[y, x] == pytest.approx(expected, abs=1e-3, rel=1e-6)


@quick
@given(seeds, st.integers(4, 12), kinds)
def test_a_control_point_is_met_exactly(seed: int, count: int, kind: str):
    rng = np.random.default_rng(seed)
    places = rng.permutation(SIZE[0] * SIZE[1])[:count]
    q = np.stack([places % SIZE[1], places // SIZE[1]], 1)
    assume(np.linalg.matrix_rank(q - q.mean(0)) == 2)
    p = rng.uniform(0, 9, (count, 2))
    assert np.array_equal(backward_map(SIZE, p, q, kind)[q[:, 1], q[:, 0]], p.astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", [1e-3, 1e-7, 1e-12, 1e-170])
def test_a_pixel_very_close_to_a_control_point_has_its_position(kind: str, distance: float):
    q = np.array([[distance, 0.0], [11, 0], [0, 8], [11, 8]])
    p = np.array([[3.0, 2.0], [10, 1], [-1, 9], [12, 6]])
    assert backward_map(SIZE, p, q, kind)[0, 0] == pytest.approx(p[0], abs=4 * distance + 1e-6)


@pytest.mark.parametrize("kind", ["similarity", "rigid"])
def test_steep_weights_keep_the_rotation_about_the_nearest_point(kind: str):
    # The others' weights are below 1e-16 of the nearest one's: a centroid taken in plain coordinates would drown them.
    q = np.array([[1.0, 1.0], [200.5, 0.0], [0.0, 180.5]])
    p = q @ turn(0.7)
    y, x = np.mgrid[:5, :5]
    assert backward_map((5, 5), p, q, kind, 8.0) == pytest.approx(np.stack([x, y], -1) @ turn(0.7), abs=1e-4)


def test_a_rotation_is_kept_by_weights_whose_squares_vanish():
    q = np.array([[1.0, 1.0], [200.5, 0.0], [0.0, 180.5]])
    y, x = np.mgrid[:5, :5]
    turned = np.stack([x, y], -1) @ turn(0.7)
    assert backward_map((5, 5), q @ turn(0.7), q, "rigid", 40.0) == pytest.approx(turned, abs=1e-4)


@quick
@given(seeds, kinds)
def test_unmoved_points_give_the_identity(seed: int, kind: str):
    _, q = points(seed, 6)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    assert backward_map(SIZE, q, q, kind) == pytest.approx(np.stack([x, y], -1), abs=1e-4)


@quick
@given(seeds, kinds, st.integers(2, 8), st.floats(-3, 3), st.floats(0.3, 3), st.floats(-20, 20))
def test_it_reproduces_motions_of_its_own_kind(seed: int, kind: str, count: int, angle: float, scale: float, shift: float):
    _, q = points(seed, count + 2 * (kind == "affine"))
    scale = 1.0 if kind == "rigid" else scale
    matrix = scale * turn(angle)
    if kind == "affine":
        along, across = np.linalg.svd(q - q.mean(0), compute_uv=False)
        assume(across > 0.05 * along)
        matrix = matrix @ np.array([[1.0, 0.4], [0.0, -0.7]])  # shear and reflection
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    expected = np.stack([x, y], -1) @ matrix + [shift, -shift]
    assert backward_map(SIZE, q @ matrix + [shift, -shift], q, kind) == pytest.approx(expected, abs=1e-3)


@quick
@given(seeds, kinds, st.integers(-5, 5), st.integers(-5, 5), st.floats(-3, 3))
def test_moving_the_world_moves_the_map(seed: int, kind: str, dx: int, dy: int, angle: float):
    p, q = points(seed, 7)
    along, across = np.linalg.svd(q - q.mean(0), compute_uv=False)
    assume(across > 0.05 * along)
    plain = backward_map(SIZE, p, q, kind)
    # A rotation of the input rotates the map.
    assert backward_map(SIZE, p @ turn(angle), q, kind) == pytest.approx(plain @ turn(angle), abs=5e-3)
    # A translation of the output translates the pixels at which the map is read.
    shifted = backward_map(SIZE, p, q + np.array([dx, dy]), kind)
    ours = plain[max(-dy, 0) : SIZE[0] - max(dy, 0), max(-dx, 0) : SIZE[1] - max(dx, 0)]
    theirs = shifted[max(dy, 0) : SIZE[0] - max(-dy, 0), max(dx, 0) : SIZE[1] - max(-dx, 0)]
    assert theirs == pytest.approx(ours, abs=5e-3)


@pytest.mark.parametrize("kind", ["similarity", "rigid"])
def test_one_point_is_a_translation(kind: str):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    moved = backward_map(SIZE, np.array([[5.5, 1.0]]), np.array([[2.0, 3.25]]), kind)
    assert np.array_equal(moved, np.stack([x + 3.5, y - 2.25], -1))


def test_a_rigid_sum_of_zero_is_a_translation():
    p, q = np.full((2, 2), 3.0), np.array([[1.25, 1.0], [7.5, 5.0]])
    v = np.array([4.0, 2.0])
    w = 1 / ((q - v) ** 2).sum(1)
    assert backward_map(SIZE, p, q, "rigid")[2, 4] == pytest.approx(3 + v - w @ q / w.sum(), abs=1e-5)
    assert backward_map(SIZE, p, q, "similarity") == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("p", "q", "kind", "alpha", "message"),
    [
        (np.zeros((2, 2)), np.array([[0, 0], [1, 1]]), "projective", 1.0, "kind"),
        (np.zeros((3, 2)), np.array([[0, 0], [1, 1]]), "rigid", 1.0, r"\[n, 2\]"),
        (np.zeros((2, 3)), np.zeros((2, 3)), "rigid", 1.0, r"\[n, 2\]"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "rigid", 1.0, "at least one"),
        (np.zeros((2, 2)), np.ones((2, 2)), "rigid", 1.0, "same"),
        (np.zeros((1, 2)), np.array([[np.nan, 0]]), "rigid", 1.0, "finite"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "rigid", -1.0, "alpha"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "rigid", np.nan, "alpha"),
        (np.zeros((1, 2)), np.zeros((1, 2)), "affine", 1.0, "line"),
        (np.zeros((2, 2)), np.array([[0, 0], [1, 1]]), "affine", 1.0, "line"),
        (np.zeros((4, 2)), np.stack([np.arange(4) * 0.1, np.arange(4) * 0.3 + 7], 1), "affine", 1.0, "line"),
    ],
)
def test_wrong_arguments_are_refused(p: np.ndarray, q: np.ndarray, kind: str, alpha: float, message: str):
    with pytest.raises(ValueError, match=message):
        backward_map(SIZE, p, q, kind, alpha)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_identity_returns_the_same_bytes(channels: int):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, channels), dtype=np.uint8)
    p, _ = control_points(rng, (40, 50), 6, 0.1)
    for kind in KINDS:
        assert np.array_equal(deform(image, p, p, kind), image)


def test_a_translation_shifts_the_image_and_replicates_its_edge():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image.setflags(write=False)
    moved = deform(image, np.array([[5.0, 5.0]]), np.array([[8.0, 4.0]]))
    assert np.array_equal(moved[:-1, 3:], image[1:, :-3])
    assert np.array_equal(moved[:-1, :3], np.repeat(image[1:, :1], 3, 1))
    half = deform(image, np.array([[5.5, 5.0]]), np.array([[5.0, 5.0]]))
    mean = (image[:, :-1].astype(float) + image[:, 1:]) / 2
    assert np.abs(half[:, :-1] - mean).max() <= 0.5


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_other_images_are_refused(image: np.ndarray):
    with pytest.raises(ValueError, match="uint8"):
        deform(image, np.zeros((1, 2)), np.zeros((1, 2)))


@quick
@given(seeds, st.integers(2, 80), st.integers(2, 80), st.integers(0, 24), st.floats(0, 0.5))
def test_control_points_are_inside_distinct_and_near(seed: int, height: int, width: int, count: int, spread: float):
    p, q = control_points(np.random.default_rng(seed), (height, width), count, spread)
    assert p.shape == q.shape == (count + 4, 2)
    assert np.array_equal(p[:4], q[:4])
    for some in (p, q):
        assert (some >= 0).all()
        assert (some <= [width - 1, height - 1]).all()
        assert len(np.unique(some, axis=0)) == len(some)
    assert (np.linalg.norm(p - q, axis=1) <= spread * min(height, width) + 1e-9).all()
    again = control_points(np.random.default_rng(seed), (height, width), count, spread)
    assert np.array_equal(again, (p, q))


def test_displacements_are_distributed_as_configured():
    rng = np.random.default_rng(0)
    size, spread = (1000, 1000), 0.01  # so small that neither clipping nor neighbours matter
    lengths = {}
    for displacement in ("disc", "normal"):
        moved = [np.subtract(*control_points(rng, size, 20, spread, displacement))[4:] for _ in range(100)]
        lengths[displacement] = np.linalg.norm(np.concatenate(moved), axis=1) / 10
    half, all_ = (lengths["disc"] < 0.5).mean(), (lengths["disc"] <= 1).mean()
    assert all_ == 1 and half == pytest.approx(0.25, abs=0.04)  # areas of the discs
    one, two = ((lengths["normal"] < limit).mean() for limit in (1, 2))
    assert (one, two) == (pytest.approx(1 - np.exp(-0.5), abs=0.04), pytest.approx(1 - np.exp(-2), abs=0.04))


def jacobian_folds(backward: np.ndarray) -> float:
    """The share of pixels whose Jacobian determinant is not above 0."""
    by_y, by_x = np.gradient(backward.astype(np.float64), axis=(0, 1))
    return float((np.linalg.det(np.stack([by_x, by_y], -1)) <= 0).mean())


@settings(max_examples=30, deadline=None)
@given(seeds, kinds, st.integers(2, 40), st.integers(2, 40), st.sampled_from([0.0, 0.01, 0.1]), st.sampled_from(["disc", "normal"]))
def test_no_random_map_folds_beyond_the_limit(seed: int, kind: str, height: int, width: int, limit: float, displacement: str):
    choose = (kind, 8, 0.6, displacement, limit)
    backward = random_map(np.random.default_rng(seed), (height, width), *choose)
    assert backward.shape == (height, width, 2)
    assert jacobian_folds(backward) <= limit + 1e-9
    assert np.array_equal(backward, random_map(np.random.default_rng(seed), (height, width), *choose))


def test_a_map_within_the_limit_is_the_first_draw_and_others_are_drawn_again():
    p, q = control_points(np.random.default_rng(3), (48, 48), 8, 0.5)
    first = backward_map((48, 48), p, q, "rigid")
    share = jacobian_folds(first)
    assert share > 0.02 and folded_share(first) == share
    assert np.array_equal(random_map(np.random.default_rng(3), (48, 48), "rigid", 8, 0.5, max_folded=share), first)
    assert not np.array_equal(random_map(np.random.default_rng(3), (48, 48), "rigid", 8, 0.5, max_folded=share - 0.001), first)


def test_later_draws_move_less():
    reaches = []
    for attempt, (p, q) in enumerate(draws(np.random.default_rng(0), (200, 200), 30, 0.3)):
        reaches.append(np.linalg.norm(p - q, axis=1).max() / 60)
        if attempt == FULL_TRIES + 10:
            break
    assert min(reaches[:FULL_TRIES]) > 0.8
    assert all(reach <= SHRINK ** (i + 1) + 1e-9 for i, reach in enumerate(reaches[FULL_TRIES:]))


def test_control_points_refuse_what_has_no_room():
    rng = np.random.default_rng(0)
    for size, count, spread in [((1, 9), 3, 0.1), ((9, 9), -1, 0.1), ((9, 9), 3, -0.1), ((9, 9), 3, np.nan)]:
        with pytest.raises(ValueError, match="control points"):
            control_points(rng, size, count, spread)


def test_folds_are_counted():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    plain = np.stack([x, y], -1)
    assert folded_share(plain) == 0
    assert folded_share(plain[:, ::-1]) == 1
    assert folded_share(np.stack([np.abs(x - 14.5), y], -1)) == pytest.approx(0.5, abs=1 / 30)
    q = np.array([[0, 0], [29, 0], [0, 19], [29, 19], [20, 9], [9, 9]])
    near = q + np.array([[0, 0], [0, 0], [0, 0], [0, 0], [1, 0], [0, 1]])
    assert folded_share(backward_map((20, 30), near, q)) == 0
    assert folded_share(backward_map((20, 30), q[[0, 1, 2, 3, 5, 4]], q)) > 0.05


def test_the_module_is_cheap_to_import():
    code = "import sys, src.data.mls; assert 'numba' not in sys.modules and 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
