"""Many drawings: one thread a device, and what is finished is kept, so that an interrupted run goes on."""

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch

from src.backbone.parts import native_precision
from src.model.colorizer import Colorizer


def devices() -> list[torch.device]:
    """All GPUs, or the CPU."""
    return [torch.device("cuda", i) for i in range(torch.cuda.device_count())] or [torch.device("cpu")]


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """The type that a network samples in; `auto` is what the device computes in fastest. ValueError: unknown name."""
    if name == "auto":
        return native_precision(device)
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}; it must be auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[name]


def replica(colorizer: Colorizer, device: torch.device, precision: str = "auto", compiled: bool = False) -> Colorizer:
    """A copy of a colorizer for sampling on a device, in eval mode and channels-last, compiled if asked for."""
    own = copy.deepcopy(colorizer).eval().requires_grad_(False)
    own.to(device, precision_of(precision, device)).to(memory_format=torch.channels_last)
    if compiled:
        own.compile()
    return own


def in_batches(
    job: Callable[[slice, torch.device], np.ndarray], count: int, batch: int, where: Sequence[torch.device], parts: Path
) -> np.ndarray:
    """`job(rows, device)` for slices of at most `batch` of `count` rows, joined along the first axis in their order.

    Each device has a thread that takes the next slice. Finished slices lie in the folder `parts`; those that are there already
    are not made again. Removing the folder is up to the caller, when the whole is safe. An error of a job ends all, and is raised.
    """
    from src.data.images import array_bytes, array_from
    from src.files import write_atomically

    parts.mkdir(parents=True, exist_ok=True)
    slices = [slice(start, min(start + batch, count)) for start in range(0, count, batch)]
    files = [parts / f"{rows.start:08}-{rows.stop:08}.npy" for rows in slices]
    free: SimpleQueue[torch.device] = SimpleQueue()
    for device in where:
        free.put(device)

    def work(rows: slice, file: Path) -> None:
        device = free.get()
        try:
            data = array_bytes(job(rows, device))
        finally:
            free.put(device)
        write_atomically(file, lambda f: f.write(data))

    pool = ThreadPoolExecutor(len(where))
    try:
        waiting = [pool.submit(work, rows, file) for rows, file in zip(slices, files, strict=True) if not file.exists()]
        for done in waiting:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return np.concatenate([array_from(file.read_bytes()) for file in files])
