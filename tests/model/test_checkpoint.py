"""A disk that fills up while a checkpoint is written, made with the kernel's limit on the size of a file."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from src.files import write_json
from src.model.checkpoint import WholeCheckpoints


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_fails_names_the_file_and_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"weights": torch.ones(100)}, path)
    with files_of_at_most(1_000_000), pytest.raises(OSError, match=r"File too large.*last\.ckpt"):
        WholeCheckpoints().save_checkpoint({"weights": torch.zeros(1_000_000)}, path)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.load(path, weights_only=True)["weights"].sum() == 100


def test_json_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_json(path, {"old": 1})
    with files_of_at_most(1000), pytest.raises(OSError, match=r"card\.json"):
        write_json(path, {"new": "x" * 10_000})
    assert json.loads(path.read_text()) == {"old": 1} and list(tmp_path.iterdir()) == [path]
