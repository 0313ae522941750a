"""Exactly once a pass, the same order for the same seed, and on from the exact next batch."""

from pathlib import Path

import pytest
import torch

from src.data.columns import ColumnError, build_column
from src.data.loader import EpochLoader, Table
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


def test_columns_of_other_rows_are_refused(tmp_path: Path) -> None:
    build_column(tmp_path / "latent", SHARDS, make, {})
    build_column(tmp_path / "tokens", SHARDS[:2], make, {})
    with pytest.raises(ColumnError, match="different rows"):
        Table(tmp_path, ["latent", "tokens"])
