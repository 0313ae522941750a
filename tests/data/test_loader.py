"""Exactly once a pass, the same order for the same seed, and on from the exact next batch."""

import io
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

from src.data.buckets import bucket_sizes
from src.data.columns import ColumnError, Sample, build_column, read_index, shard_keys
from src.data.images import array_bytes, array_from, from_bytes, to_png
from src.data.loader import EpochLoader, Table
from src.data.tokens import decode_tokens, encode_tokens
from src.files import UserError
from src.model.features import latent_shard
from tests.data.test_columns import SHARDS, make


@pytest.fixture
def table(data_root: Path) -> Table:
    return Table(data_root / "train", ["latent", "tokens", "sketch"])


def test_a_sample_has_what_training_needs(table: Table) -> None:
    sample = table[0]
    assert sample["mean"].shape == sample["std"].shape == (4, 16, 16)
    assert sample["tokens"].shape == (65, 128)
    assert sample["sketch"].shape == (64, 64) and sample["sketch"].dtype == torch.uint8


@pytest.mark.parametrize("world", [1, 3])
def test_every_row_once_a_pass_over_all_ranks(table: Table, world: int) -> None:
    loaders = [EpochLoader(table, 2, 4, seed=1, rank=rank, world=world) for rank in range(world)]
    rows = [row for index in range(len(table)) for loader in loaders for row in loader.rows(index)]
    assert sorted(rows) == sorted(list(range(len(table))) * 2 * world)
    assert rows != sorted(rows)


def test_restores_to_the_exact_next_batch(table: Table) -> None:
    whole = EpochLoader(table, 4, 16, seed=3)
    keys = [batch["key"] for _ in range(2) for batch in whole]
    first = EpochLoader(table, 4, 16, seed=3)
    iterator = iter(first)
    seen = [next(iterator)["key"] for _ in range(3)]
    second = EpochLoader(table, 4, 16, seed=3)
    second.load_state_dict(first.state_dict())
    rest = [batch["key"] for batch in second] + [batch["key"] for batch in second]
    assert seen + rest == keys and len(keys) == 8


def test_restores_with_another_number_of_workers(table: Table) -> None:
    whole = EpochLoader(table, 4, 24, seed=5, order="shards")
    keys = [batch["key"] for batch in whole]
    first = EpochLoader(table, 4, 24, seed=5, order="shards", workers=2)
    iterator = iter(first)
    seen = [next(iterator)["key"] for _ in range(2)]
    second = EpochLoader(table, 4, 24, seed=5, order="shards", workers=1)
    second.load_state_dict(first.state_dict())
    assert seen + [batch["key"] for batch in second] == keys and len(keys) == 6


def test_a_table_in_an_object_store(data_root: Path, table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORIZE_CACHE", str(tmp_path))
    store = fsspec.filesystem("memory")
    store.put(f"{data_root}/", "memory://drawings/", recursive=True)
    try:
        remote = Table("memory://drawings/train", ["latent", "tokens", "sketch"])
        for mine, theirs in zip(EpochLoader(table, 4, 8, seed=0), EpochLoader(remote, 4, 8, seed=0), strict=True):
            assert mine["key"] == theirs["key"]
            assert all(torch.equal(mine[name], theirs[name]) for name in mine if name != "key")
    finally:
        store.store.clear()


def test_tokens_of_8_bits_differ_by_at_most_half_a_step(table: Table) -> None:
    tokens = table[0]["tokens"].numpy()
    coarse = decode_tokens(encode_tokens(tokens, bits=8))
    assert (np.abs(coarse - tokens) <= np.abs(tokens).max(-1, keepdims=True) / 254 * 1.0001).all()
    assert np.array_equal(decode_tokens(encode_tokens(tokens)), tokens)
    assert np.array_equal(decode_tokens(encode_tokens(np.zeros((3, 4)), bits=8)), np.zeros((3, 4)))


def test_images_may_be_of_any_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize((70, 90))
    encoded = {}
    for row, kind in enumerate(("png", "jpeg", "webp")):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        encoded[str(row)] = {{"jpeg": "jpg"}.get(kind, kind): buffer.getvalue()}
    build_column(tmp_path / "color", [["0", "1", "2"]], partial(given, rows=encoded), {})
    table = Table(tmp_path, ["color"])
    for row, sample in enumerate(encoded.values()):
        assert np.array_equal(table[row]["color"].numpy(), from_bytes(*sample.values()))


def test_arrays_come_back_and_nothing_else_is_read() -> None:
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    assert np.array_equal(array_from(array_bytes(array)), array)
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}]), allow_pickle=True)
    for data in (buffer.getvalue(), b"", b"png", array_bytes(array)[:-1], array_bytes(array)[:30]):
        with pytest.raises(ValueError):
            array_from(data)


def given(shard: int, keys: Sequence[str], *, rows: dict[str, Sample]) -> Iterator[tuple[str, Sample]]:
    yield from ((key, rows[key]) for key in keys)


@pytest.fixture
def mixed(tmp_path: Path, backbone_directory: Path) -> Path:
    """A split of drawings that kept their proportions, longest side 80, with latents made in buckets of 192 x 192 pixels."""
    rng = np.random.default_rng(0)
    sizes = [(80, 80), (40, 80), (80, 50), (64, 80), (80, 80), (44, 80)] * 2
    shards = [[f"{i}" for i in range(7)], [f"{i}" for i in range(7, 12)]]

    def color(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
        for key in keys:
            height, width = sizes[int(key)]
            meta = json.dumps({"width": 3 * width, "height": 3 * height}).encode()
            yield key, {"png": to_png(rng.integers(0, 256, (height, width, 3), np.uint8)), "json": meta}

    def sketch(shard: int, keys: Sequence[str]) -> Iterator[tuple[str, Sample]]:
        yield from ((key, {"png": to_png(rng.integers(0, 256, sizes[int(key)], np.uint8))}) for key in keys)

    build_column(tmp_path / "color", shards, color, {})
    build_column(tmp_path / "sketch", shards, sketch, {})
    make_latent = partial(latent_shard, images=tmp_path / "color", backbone={"directory": str(backbone_directory)})
    build_column(tmp_path / "latent", shards, partial(make_latent, pixels=192 * 192), {})
    return tmp_path


def test_every_batch_is_of_one_size_and_all_ranks_have_the_same(mixed: Path) -> None:
    buckets = bucket_sizes(192 * 192)
    table = Table(mixed, ["latent", "color", "sketch"], buckets)
    assert buckets == [(128, 256), (192, 192), (256, 128)] and np.bincount(table.bucket_of).tolist() == [4, 6, 2]
    loaders = [EpochLoader(table, 1, 12, seed=0, rank=rank, world=2) for rank in range(2)]
    seen = []
    for one, two in zip(*loaders, strict=True):
        assert one["color"].shape == two["color"].shape == (1, *one["sketch"].shape[1:], 3)
        assert tuple(4 * side for side in one["mean"].shape[-2:]) == one["color"].shape[1:3]
        seen += one["key"] + two["key"]
    assert sorted(map(int, seen)) == list(range(12))


def test_what_buckets_need_is_said(mixed: Path, data_root: Path, backbone_directory: Path) -> None:
    with pytest.raises(ColumnError, match="does not know the sizes"):
        Table(data_root / "train", ["sketch"], bucket_sizes(192 * 192))
    shards = shard_keys(read_index(mixed / "color"))
    make_latent = partial(latent_shard, images=mixed / "color", backbone={"directory": str(backbone_directory)})
    build_column(mixed / "latent", shards, make_latent, {"without": "buckets"})
    with pytest.raises(ColumnError, match=r"run its stage with scale\.buckets=true"):
        Table(mixed, ["latent"], bucket_sizes(192 * 192))[1]
    with pytest.raises(UserError, match=r"scale\.order is 'columns'"):
        EpochLoader(Table(mixed, ["sketch"]), 1, 12, seed=0, order="columns")


def test_columns_of_other_rows_are_refused(tmp_path: Path) -> None:
    build_column(tmp_path / "latent", SHARDS, make, {})
    build_column(tmp_path / "tokens", SHARDS[:2], make, {})
    with pytest.raises(ColumnError, match="different rows"):
        Table(tmp_path, ["latent", "tokens"])
