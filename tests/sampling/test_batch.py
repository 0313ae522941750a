"""Many drawings in slices: their order, what is kept, and what an error leaves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from src.sampling.batch import in_batches, precision_of

CPU = torch.device("cpu")


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_come_back_in_their_order(tmp_path: Path, threads: int) -> None:
    out = in_batches(lambda rows, _: np.arange(rows.start, rows.stop)[:, None], 10, 3, [CPU] * threads, tmp_path / "parts")
    assert out.ravel().tolist() == list(range(10))


def test_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def job(rows: slice, device: torch.device) -> np.ndarray:
        if rows.start == 6 and not made.count(6):
            made.append(6)
            raise RuntimeError("the power failed")
        made.append(rows.start)
        return np.arange(rows.start, rows.stop)

    with pytest.raises(RuntimeError, match="the power failed"):
        in_batches(job, 10, 3, [CPU], tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) in (2, 3)
    assert in_batches(job, 10, 3, [CPU], tmp_path).tolist() == list(range(10))
    assert sorted(made) == [0, 3, 6, 6, 9]


def test_precision_by_device() -> None:
    assert precision_of("auto", CPU) == torch.float32 and precision_of("fp16", CPU) == torch.float16
    with pytest.raises(ValueError, match="must be auto, fp32, bf16, fp16"):
        precision_of("int8", CPU)
