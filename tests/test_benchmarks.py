"""What the benchmarks decide by themselves."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.train_step import images_per_second, largest


@given(st.integers(0, 3000), st.integers(1, 16))
def test_the_largest_batch_is_found_in_few_tries(memory: int, step: int) -> None:
    tried: list[int] = []

    def fits(batch: int) -> bool:
        tried.append(batch)
        return batch <= memory

    assert largest(fits, step) == memory // step * step
    assert len(tried) == len(set(tried)) <= 2 * (memory // step).bit_length() + 1


def test_a_batch_without_memory_has_no_rate() -> None:
    def step() -> None:
        raise torch.cuda.OutOfMemoryError

    assert images_per_second(lambda batch: step, 4, 0.0) is None
    assert images_per_second(lambda batch: lambda: None, 4, 0.01) > 0
