"""Algorithms 1 and 2 and Eq. 9 to 11 against values computed by hand, and what must hold whatever the numbers are."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from src.manipulation import Edit, correlation_map, edit_global, edit_local, edit_tokens
from src.manipulation.algorithms import dscale, omega, zones

X, Y, Z, W = torch.eye(4, dtype=torch.float64)
SLANTED = 0.6 * X + 0.8 * Y
seeds = st.integers(0, 2**32 - 1)
anytime = settings(deadline=None)


def tensor(*values: float | list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Algorithm 1


@pytest.mark.parametrize(
    ("anchor", "enhance", "expected"),
    [
        (None, False, [8, 4, 5, 1]),  # 3 + (8 - 3)
        (None, True, [11, 4, 5, 1]),  # 3 + 8
        (Y, False, [11, -4, 5, 1]),  # + 8 (e - a)
        (Y, True, [8, 0, 5, 1]),  # a is taken out, then + (8 - 3) e
        (SLANTED, False, [6.2, -2.4, 5, 1]),  # + 8 (0.4, -0.8)
        (SLANTED, True, [8, 0, 5, 1]),  # v . a = 5: v' = (0, 0, 5, 1), v' . e = 0
    ],
)
def test_the_branches_of_algorithm_1(anchor: Tensor | None, enhance: bool, expected: list[float]) -> None:
    edit = Edit(X, anchor, target_scale=8, enhance=enhance)
    assert_close(edit_global(tensor([3, 4, 5, 1]), [edit]), tensor(expected))


def test_an_enhanced_edit_with_an_anchor_projects_what_the_anchor_left() -> None:
    # v . a = 3, v' = (3.2, -2.4, 0, 0), and d is 8 - 3.2, not 8 - 5
    assert_close(edit_global(tensor([5, 0, 0, 0]), [Edit(X, SLANTED, target_scale=8, enhance=True)]), tensor([8, -2.4, 0, 0]))


def test_a_global_sequence_reads_the_token_that_the_edits_before_left() -> None:
    edits = [Edit(X, target_scale=8), Edit(SLANTED, target_scale=10)]
    # (3, 4) -> (8, 4); its projection on the second target is 8, so 2 more: + (1.2, 1.6)
    assert_close(edit_global(tensor([3, 4, 5, 1]), edits), tensor([9.2, 5.6, 5, 1]))


def test_a_global_edit_ignores_the_fields_of_local_ones() -> None:
    cls = tensor([3, 4, 5, 1])
    plain = edit_global(cls, [Edit(X, Y, target_scale=8)])
    for control in (Z, "everything"):
        other = Edit(X, Y, control, target_scale=8, thresholds=(0, 0, 0, 0), ratio=9, subtract_projection=True)
        assert torch.equal(edit_global(cls, [other]), plain)


@anytime
@given(seeds)
def test_a_global_edit_to_the_present_projection_changes_nothing(seed: int) -> None:
    cls, (target, *_) = tokens_of(seed, 1, 1)[1], directions(seed)
    assert_close(edit_global(cls, [Edit(target, target_scale=float(cls[0] @ target))]), cls)


@anytime
@given(seeds, st.floats(-20, 20))
def test_a_global_edit_reaches_its_target_scale(seed: int, scale: float) -> None:
    cls, (target, anchor, *_) = tokens_of(seed, 3, 1)[1], directions(seed)
    for edit in (Edit(target, target_scale=scale), Edit(target, anchor, target_scale=scale, enhance=True)):
        assert_close(edit_global(cls, [edit]) @ target, tensor(scale, scale, scale))


# Eq. 10

# One m at and around each threshold of the defaults, and omega for d = 4, r = 2.
CURVE = [
    (0.0, -8), (0.25, -8), (0.5 - 1e-9, -8), (0.5, -8), (0.5 + 1e-9, -8 + 1.6e-7), (0.525, -4),
    (0.55 - 1e-9, -1.6e-7), (0.55, 0), (0.55 + 1e-9, 2e-8), (0.6, 1), (0.65 - 1e-9, 2 - 2e-8), (0.65, 2),
    (0.65 + 1e-9, 2 + 2e-8 / 3), (0.8, 3), (0.95 - 1e-9, 4 - 2e-8 / 3), (0.95, 4), (0.95 + 1e-9, 4), (1.0, 4),
]  # fmt: skip


@pytest.mark.parametrize("d", [4.0, -4.0, 1.0, 0.0])
@pytest.mark.parametrize(("m", "expected"), CURVE)
def test_every_interval_of_eq_10(m: float, expected: float, d: float) -> None:
    assert_close(omega(tensor(m), d), tensor(expected) * d / 4, rtol=0, atol=1e-10)


def test_the_ratio_scales_the_pertinent_side_alone() -> None:
    m = tensor(0.2, 0.525, 0.55, 0.6, 0.8, 1)
    assert_close(omega(m, 4.0, ratio=0.5), tensor(-2, -1, 0, 1, 3, 4))
    assert_close(omega(m, 4.0, ratio=0), tensor(0, 0, 0, 1, 3, 4))


def test_a_threshold_belongs_to_the_interval_below() -> None:
    ts = (0.1, 0.2, 0.5, 0.9)
    for dtype in (torch.float32, torch.float64):
        m = torch.tensor(ts, dtype=dtype)
        above, below = torch.nextafter(m, torch.ones_like(m)), torch.nextafter(m, torch.zeros_like(m))
        assert zones(m, ts).tolist() == zones(below, ts).tolist() == [0, 1, 2, 3]
        assert zones(above, ts).tolist() == [1, 2, 3, 4]
        assert omega(m, 1.0, ts).tolist() == [-2, 0, 0.5, 1]  # exactly


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ((0.5, 0.5, 0.6, 0.9), [-2, -2, 0, 0.5, 1]),  # from -d r to 0 at once
        ((0.4, 0.5, 0.5, 0.9), [-2, 0, 0.5, 0.625, 1]),  # from 0 to d / 2
        ((0.4, 0.5, 0.6, 0.6), [-2, 0, 0, 0.5, 1]),  # from d / 2 to d
        ((0.5, 0.5, 0.5, 0.5), [-2, -2, 1, 1, 1]),  # from -d r to d
        ((0, 0, 0, 0), [-2, 1, 1, 1, 1]),
        ((1, 1, 1, 1), [-2, -2, -2, -2, -2]),
    ],
)
def test_an_empty_interval_is_a_step(thresholds: tuple[float, ...], expected: list[float]) -> None:
    just_above = math.nextafter(0.5, 1)
    assert_close(omega(tensor(0, 0.5, just_above, 0.6, 1), 1.0, thresholds), tensor(*expected))


def literal_omega(m: float, d: float, ts: tuple[float, ...], r: float) -> float:
    """Eq. 10 as it is printed."""
    if m <= ts[0]:
        return -d * r
    if m <= ts[1]:
        return -d * r + d * r * (m - ts[0]) / (ts[1] - ts[0])
    if m <= ts[2]:
        return 0.5 * d * (m - ts[1]) / (ts[2] - ts[1])
    if m <= ts[3]:
        return 0.5 * d + 0.5 * d * (m - ts[2]) / (ts[3] - ts[2])
    return d


rising = st.sets(st.integers(0, 100), min_size=4, max_size=4).map(lambda ts: tuple(t / 100 for t in sorted(ts)))
not_falling = st.lists(st.integers(0, 100), min_size=4, max_size=4).map(lambda ts: tuple(t / 100 for t in sorted(ts)))
positive = st.floats(0.01, 20)


@anytime
@given(not_falling, st.floats(-20, 20), st.floats(0, 20))
def test_omega_is_eq_10(ts: tuple[float, ...], d: float, r: float) -> None:
    m = torch.linspace(0, 1, 201, dtype=torch.float64)
    assert_close(omega(m, d, ts, r), tensor(*(literal_omega(float(x), d, ts, r) for x in m)))


@anytime
@given(rising, positive, positive, st.lists(st.floats(0, 1), max_size=20))
def test_the_shape_of_omega(ts: tuple[float, ...], d: float, r: float, more: list[float]) -> None:
    m = tensor(*sorted([*torch.linspace(0, 1, 101, dtype=torch.float64).tolist(), *ts, *more]))
    w = omega(m, d, ts, r)
    assert (w[m <= ts[0]] == -d * r).all() and (w[m > ts[3]] == d).all()
    assert torch.equal(w.sign(), (m - ts[1]).sign())  # below, at and above ts1, the only unchanged point
    assert (w.diff() >= 0).all()
    steepest = max(d * r / (ts[1] - ts[0]), 0.5 * d / (ts[2] - ts[1]), 0.5 * d / (ts[3] - ts[2]))
    assert (w.diff() <= steepest * m.diff() * (1 + 1e-9) + 1e-9).all()  # continuous: no step anywhere
    assert torch.equal(omega(m, -d, ts, r), -w)


# Eq. 9


def test_the_map_is_min_max_normalised_in_each_image() -> None:
    local = torch.stack([tensor([9, 0, 2, 0], [1, 0, 6, 0], [0, 5, 3, 0]), tensor([0, 0, -1, 0], [0, 0, -3, 7], [0, 0, -3, 0])])
    assert_close(correlation_map(local, Z), tensor([0, 1, 0.25], [1, 0, 0]))


@anytime
@given(seeds, st.integers(1, 40), st.integers(1, 70), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_a_constant_map_is_zero(seed: int, n: int, width: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(seed)
    control = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    token = 10 * torch.randn(width, generator=generator).to(dtype)
    for local in (token.expand(2, n, width), torch.zeros(2, n, width, dtype=dtype)):
        assert not correlation_map(local, control).any()
        edited = edit_local(local, local[:, 0], [Edit(control, None, control, target_scale=1)])
        precise = torch.promote_types(dtype, torch.float32)
        assert_close(edited, (local.to(precise) - 2 * control.to(precise)).to(dtype))  # omega = -d r


# Algorithm 2

M = tensor(0, 0.25, 0.5, 0.525, 0.55, 0.6, 0.65, 0.8, 0.95, 1)
CLS = tensor([3, 1, 0, 7])
A = tensor(1, -1, 2, -2, 3, -3, 0, 0.5, 4, 1)  # v . a of each token


def local_tokens() -> Tensor:
    """[1, 10, 4] with the map M along Z, whose least and greatest are -1 and 3, and different values along X, Y and W."""
    count = torch.arange(10, dtype=torch.float64)
    return torch.stack([0.1 * count, A, 4 * M - 1, 5 - count], 1)[None]


OMEGA_OF_4 = tensor(-8, -8, -8, -4, 0, 1, 2, 3, 4, 4)


@pytest.mark.parametrize(
    ("anchor", "enhance", "weight"),
    [
        (None, False, OMEGA_OF_4 * 7 / 4),  # d = 7
        (None, True, OMEGA_OF_4 * 7 / 4),  # enhance is ignored
        (Y, False, OMEGA_OF_4),  # d = 7 - v_cls . e = 4
        (Y, True, OMEGA_OF_4 * 6 / 4 + A),  # d = 7 - v_cls . a = 6, beta = 1
    ],
)
def test_the_branches_of_algorithm_2(anchor: Tensor | None, enhance: bool, weight: Tensor) -> None:
    edit = Edit(X, anchor, Z, target_scale=7, enhance=enhance)
    direction = X - anchor if anchor is not None else X
    assert_close(edit_local(local_tokens(), CLS, [edit]), local_tokens() + weight[:, None] * direction)


@pytest.mark.parametrize(
    ("anchor", "enhance", "weight"),
    [(None, False, tensor(*[7.0] * 10)), (Y, False, tensor(*[4.0] * 10)), (Y, True, 6 + A)],
)
def test_everything_is_d_everywhere(anchor: Tensor | None, enhance: bool, weight: Tensor) -> None:
    edit = Edit(X, anchor, "everything", target_scale=7, enhance=enhance)
    direction = X - anchor if anchor is not None else X
    assert_close(edit_local(local_tokens(), CLS, [edit]), local_tokens() + weight[:, None] * direction)


def test_a_target_scale_below_the_present_projection_turns_the_edit_round() -> None:
    edit = Edit(X, Y, Z, target_scale=-1)  # d = -1 - 3
    assert_close(edit_local(local_tokens(), CLS, [edit]), local_tokens() - OMEGA_OF_4[:, None] * (X - Y))


def test_a_local_edit_has_its_own_thresholds_and_ratio() -> None:
    edit = Edit(X, None, Z, target_scale=8, thresholds=(0, 0.25, 0.5, 0.6), ratio=0.5)
    weight = tensor(-4, 0, 4, 5, 6, 8, 8, 8, 8, 8)
    assert_close(edit_local(local_tokens(), CLS, [edit]), local_tokens() + weight[:, None] * X)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 7),
        ({"enhance": True}, 7),
        ({"subtract_projection": True}, 4),
        ({"anchor": Y}, 4),
        ({"anchor": Y, "subtract_projection": True}, 4),
        ({"anchor": Y, "enhance": True}, 6),
    ],
)
def test_d(options: dict, expected: float) -> None:
    assert_close(dscale(CLS, Edit(X, target_scale=7, **options)), tensor(expected))


def test_d_is_each_images_own() -> None:
    cls = tensor([3, 1, 0, 0], [5, 2, 0, 0])
    edited = edit_local(local_tokens().repeat(2, 1, 1), cls, [Edit(X, Y, Z, target_scale=7)])
    assert_close(edited[1], local_tokens()[0] + OMEGA_OF_4[:, None] * 2 / 4 * (X - Y))


@pytest.mark.parametrize("control", [Z, "everything"])
def test_the_implementations_variant_changes_nothing_at_the_present_projection(control: Tensor | str) -> None:
    edit = Edit(X, None, control, target_scale=3, subtract_projection=True)
    assert_close(edit_local(local_tokens(), CLS, [edit]), local_tokens())


def test_a_local_sequence_maps_the_edited_tokens_and_keeps_the_cls_token() -> None:
    tokens = tensor([0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0.5, 0])[None]
    first = Edit(Z, None, "everything", target_scale=1)
    assert_close(correlation_map(edit_local(tokens, CLS, [first]), Z), correlation_map(tokens, Z))
    # r = 2 and d = 1 take 2 from the first and the third token along X and add 1 to the second
    second = Edit(X, None, Z, target_scale=1)
    once = edit_local(tokens, CLS, [second])
    assert_close(once[0, :, 0], tensor(-2, 1, -2))
    # so the next map along X is 0, 1, 0; v_cls . e is still 3, whatever the edits before did
    third = Edit(Y, W, X, target_scale=2)  # d = 2 - 1
    assert_close(edit_local(tokens, CLS, [second, third])[0, :, 1], tensor(-2, 1, -2))
    again = Edit(X, W, "everything", target_scale=7)  # d = 7 - 3 = 4 both times
    assert_close(edit_local(tokens, CLS, [again, again]), tokens + 8 * (X - W))


def test_an_enhanced_edit_in_a_sequence_reads_the_edited_tokens() -> None:
    tokens = tensor([0, 2, 0, 0], [0, 2, 1, 0])[None]
    raised = Edit(Y, None, "everything", target_scale=5)  # v . a becomes 7
    edit = Edit(X, Y, "everything", target_scale=7, enhance=True)  # d = 7 - 1
    assert_close(edit_local(tokens, CLS, [raised, edit])[0, :, :2], tensor([13, -6], [13, -6]))


def test_a_local_edit_needs_a_control() -> None:
    with pytest.raises(ValueError, match=r"^Edit 2 has no control"):
        edit_local(local_tokens(), CLS, [Edit(X, None, Z, target_scale=7), Edit(X, Y, target_scale=7)])


# Whatever the numbers


def directions(seed: int, groups: int = 1, width: int = 12) -> list[Tensor]:
    """Three random unit vectors a group; those of different groups are orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
    parts = [basis[:, 4 * i : 4 * i + 4] @ torch.randn(4, 3, generator=generator, dtype=torch.float64) for i in range(groups)]
    return [vector for part in parts for vector in torch.nn.functional.normalize(part, dim=0).T]


def tokens_of(seed: int, batch: int, n: int, width: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = 5 * torch.randn(batch, 1 + n, width, generator=generator, dtype=torch.float64)
    return tokens[:, 1:], tokens[:, 0]


scales = st.floats(-15, 15)


@anytime
@given(seeds, scales, scales, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_edits_of_orthogonal_texts_commute(
    seed: int, scale1: float, scale2: float, enhance1: bool, enhance2: bool, anchored1: bool, anchored2: bool
) -> None:
    target1, anchor1, control1, target2, anchor2, control2 = directions(seed, 2)
    first = Edit(target1, anchor1 if anchored1 else None, control1, target_scale=scale1, enhance=enhance1)
    second = Edit(target2, anchor2 if anchored2 else None, control2, target_scale=scale2, enhance=enhance2)
    local, cls = tokens_of(seed, 2, 9)
    assert_close(edit_global(cls, [first, second]), edit_global(cls, [second, first]))
    assert_close(edit_local(local, cls, [first, second]), edit_local(local, cls, [second, first]), rtol=1e-6, atol=1e-6)


def a_sequence(seed: int) -> list[Edit]:
    target, anchor, control, other, *_ = directions(seed, 2)
    return [
        Edit(target, anchor, control, target_scale=9, enhance=True),
        Edit(other, None, target, target_scale=6, thresholds=(0.1, 0.3, 0.3, 0.6)),
        Edit(anchor, other, "everything", target_scale=5),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_is_its_drawings_one_by_one(dtype: torch.dtype) -> None:
    local, cls = (t.to(dtype) for t in tokens_of(3, 5, 16))
    edits = a_sequence(3)
    single = torch.cat([edit_local(local[i : i + 1], cls[i : i + 1], edits) for i in range(5)])
    assert_close(edit_local(local, cls, edits), single)
    assert_close(edit_global(cls, edits), torch.cat([edit_global(cls[i : i + 1], edits) for i in range(5)]))


def test_edits_in_sequence_are_edits_one_after_the_other() -> None:
    local, cls = tokens_of(4, 2, 16)
    edits = a_sequence(4)
    step, step_cls = local, cls
    for edit in edits:
        step, step_cls = edit_local(step, cls, [edit]), edit_global(step_cls, [edit])
    assert torch.equal(edit_local(local, cls, edits), step)
    assert torch.equal(edit_global(cls, edits), step_cls)


def test_inputs_stay_and_no_edits_change_nothing() -> None:
    local, cls = tokens_of(5, 2, 9)
    kept = local.clone(), cls.clone()
    edit_local(local, cls, a_sequence(5))
    edit_global(cls, a_sequence(5))
    assert torch.equal(local, kept[0]) and torch.equal(cls, kept[1])
    assert torch.equal(edit_local(local, cls, []), local) and torch.equal(edit_global(cls, []), cls)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tokens_are_edited_in_float32(dtype: torch.dtype) -> None:
    local, cls = (t.to(dtype) for t in tokens_of(6, 2, 16))
    edits = a_sequence(6)
    edited = edit_local(local, cls, edits)
    assert edited.dtype == dtype and torch.equal(edited, edit_local(local.float(), cls.float(), edits).to(dtype))
    edited = edit_global(cls, edits)
    assert edited.dtype == dtype and torch.equal(edited, edit_global(cls.float(), edits).to(dtype))


@pytest.mark.parametrize("kind", ["cls", "attention"])
def test_a_colorizers_kind_chooses_the_algorithm(kind: str) -> None:
    local, cls = tokens_of(7, 2, 9)
    tokens = torch.cat([cls[:, None], local], 1)
    edited = edit_tokens(tokens, a_sequence(7), kind)
    assert torch.equal(edited[:, 0], edit_global(cls, a_sequence(7)) if kind == "cls" else cls)
    assert torch.equal(edited[:, 1:], edit_local(local, cls, a_sequence(7)) if kind == "attention" else local)


def test_shapes_that_do_not_fit() -> None:
    local, cls = tokens_of(8, 2, 9)
    edits = a_sequence(8)
    with pytest.raises(ValueError, match=r"CLS tokens need to be \[B, D\], got \[2, 9, 12\]"):
        edit_global(local, edits)
    with pytest.raises(ValueError, match="Edit 1 has text embeddings of 12 numbers, the tokens have 11"):
        edit_global(cls[:, 1:], edits)
    for wrong in (local[0], local[:1], local[..., 1:]):
        with pytest.raises(ValueError, match="Local tokens need to be"):
            edit_local(wrong, cls, edits)
    with pytest.raises(ValueError, match="needs to be cls or attention, got 'shuffle'"):
        edit_tokens(torch.cat([cls[:, None], local], 1), edits, "shuffle")
