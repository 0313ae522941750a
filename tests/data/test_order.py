"""Batches: every row once a pass, one bucket a batch, from seed and number alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.data.buckets import bucket_sizes, fill, nearest
from src.data.order import TOGETHER, Batches, pass_order

counts_of_shards = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any)
ways = st.sampled_from(["rows", "shards"])


@given(counts_of_shards, ways, st.integers(0, 3), st.integers(0, 3))
def test_a_pass_is_a_permutation(counts: list[int], by: str, seed: int, passing: int) -> None:
    order = pass_order(passing, counts, seed, by)
    assert sorted(order.tolist()) == list(range(sum(counts)))
    assert np.array_equal(order, pass_order(passing, counts, seed, by))


def test_by_shards_a_reader_needs_few_of_them_at_a_time() -> None:
    counts = [50] * 100
    shard_of = pass_order(0, counts, 0, "shards") // 50
    for first in range(0, 100, TOGETHER):
        part = shard_of[50 * first : 50 * (first + TOGETHER)]
        assert len(set(part.tolist())) == min(TOGETHER, 100 - first)
    assert len(set((pass_order(0, counts, 0, "rows")[:800] // 50).tolist())) > 90
    assert not np.array_equal(pass_order(0, counts, 0, "shards"), pass_order(1, counts, 0, "shards"))


@given(counts_of_shards, st.integers(1, 5), st.integers(1, 4), ways, st.integers(0, 2))
def test_each_row_comes_once_a_pass_over_all_ranks(counts: list[int], batch: int, world: int, by: str, seed: int) -> None:
    rows = sum(counts)
    batches = Batches(counts, batch * world, seed, by)
    number = 2 * rows // np.gcd(rows, batch * world)  # whole passes
    given_out = np.array([batches.rows(index)[rank::world] for index in range(number) for rank in range(world)])
    assert given_out.shape == (number * world, batch)
    stream = np.concatenate([batches.rows(index) for index in range(number)]).reshape(-1, rows)
    assert all(sorted(one.tolist()) == list(range(rows)) for one in stream)
    assert np.array_equal(np.bincount(given_out.ravel(), minlength=rows), np.full(rows, len(stream)))


@given(counts_of_shards, st.integers(1, 6), ways, st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_in_buckets_each_row_comes_once_a_pass_of_its_bucket(counts: list[int], size: int, by: str, pattern: list[int]) -> None:
    rows = sum(counts)
    bucket_of = np.resize(pattern, rows)
    batches = Batches(counts, size, 1, by, bucket_of)
    passes = 3
    number = sum(passes * n // size for n in np.bincount(bucket_of).tolist())
    streams: dict[int, list[int]] = {}
    for index in range(number):
        batch = batches.rows(index)
        (bucket,) = set(bucket_of[batch].tolist())  # one a batch
        streams.setdefault(bucket, []).extend(batch.tolist())
    for bucket in set(bucket_of.tolist()):
        members, stream = np.flatnonzero(bucket_of == bucket).tolist(), streams.get(bucket, [])
        assert 0 <= passes * len(members) - len(stream) < size  # only what fills no batch waits
        for first in range(0, len(stream) - len(members) + 1, len(members)):
            assert sorted(stream[first : first + len(members)]) == members
    if number:  # any batch can be had at once, whatever was asked before
        other = Batches(counts, size, 1, by, bucket_of)
        for index in (number - 1, 0, number // 2):
            assert np.array_equal(other.rows(index), batches.rows(index))


def test_buckets_are_mixed_within_a_pass() -> None:
    bucket_of = np.repeat([0, 1, 2], [60, 30, 10])
    first = [Batches([100], 5, 0, bucket_of=bucket_of).batch(index).bucket for index in range(20)]
    assert sorted(first) == [0] * 12 + [1] * 6 + [2] * 2 and first != sorted(first)


@given(st.integers(64, 1024), st.sampled_from([32, 64]), st.floats(1, 4))
def test_bucket_sizes_fill_the_budget(side: int, step: int, elongated: float) -> None:
    sizes = bucket_sizes(side * side, step, elongated)
    assert sizes == [(h, w) for w, h in reversed(sizes)]  # each has its mirror image
    for height, width in sizes:
        assert height % step == width % step == 0 and height * width <= side * side
        assert len(sizes) == 1 or ((height + step) * width > side * side and (width + step) * height > side * side)
        assert max(height, width) <= elongated * min(height, width)


def test_bucket_sizes_at_512_pixels() -> None:
    assert bucket_sizes(512 * 512) == [
        (384, 640), (448, 576), (512, 512), (576, 448), (640, 384),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="do not hold"):
        bucket_sizes(4000)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_drawing_goes_where_its_proportions_are_nearest(height: int, width: int) -> None:
    sizes = bucket_sizes(512 * 512)
    (found,) = nearest([(height, width)], sizes)
    distance = [abs(np.log(h / w) - np.log(height / width)) for h, w in sizes]
    assert distance[found] <= min(distance) + 1e-9


@pytest.mark.parametrize("shape", [(40, 60, 3), (60, 40), (16, 300, 3), (64, 96)])
def test_images_are_cut_around_their_middle(shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    image[shape[0] // 2 - 2 : shape[0] // 2 + 2, shape[1] // 2 - 2 : shape[1] // 2 + 2] = 255
    out = fill(image, (64, 96))
    assert out.shape == (64, 96, *shape[2:])
    y, x = np.argwhere(out.reshape(64, 96, -1)[..., 0] > 127).mean(0)
    assert abs(y - 31.5) < 2 and abs(x - 47.5) < 2
