"""Triples (color, sketch, reference) at 512 px a core second, and what a second worker gives: `python -m benchmarks.triples`.

The source pictures are OpenMoji drawings rendered at 1024 px, as JPEG files of quality 92: as they are, and with the grain of a
painted picture (noise of 6 grey levels), which costs more to decode and to encode. A triple is what the stages `color`, `sketch`
and `reference` make of one: the latter two decode the member of `color` anew. The steps are CPU time of one thread, the best of
some rounds; the two workers are compared by wall time, in turn with the one.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from src.data.columns import Sample, build_column
from src.data.images import encode, fitted, from_bytes
from src.data.lines import xdog
from src.data.mls import random_map, warp
from src.data.openmoji import drawings, render

SIZE = 512
PICTURES = 16
ROUNDS = 5
# Short builds, many of them, so that some meet an idle machine.
BUILDS, SHARDS, ROWS = 40, 2, 16
JPEG: dict[str, Any] = {"format": "jpg", "quality": 95}
SIGMA = 1.0


def picture(index: int, grain: float) -> bytes:
    """A JPEG file of 1024 x 1024 pixels."""
    image = render(drawings()[100 + 97 * index], 1, 1024, 0).color.astype(np.float32)
    image += np.random.default_rng(index).normal(0, grain, image.shape) if grain else 0
    buffer = io.BytesIO()
    Image.fromarray(np.rint(image.clip(0, 255)).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def deformation(key: str) -> np.ndarray:
    rng = np.random.default_rng(list(key.encode()))
    kind = ("affine", "similarity", "rigid")[rng.integers(3)]
    return random_map(rng, (SIZE, SIZE), kind, 8, 0.12, max_folded=0.01)


def triple(data: bytes, key: str) -> Sample:
    """The images of the three columns."""
    color = encode(fitted(data, SIZE, "pad")[0], **JPEG)
    sketch = encode(xdog(from_bytes(color), SIGMA), "png")
    reference = encode(warp(from_bytes(color), deformation(key)), **JPEG)
    return {"color.jpg": color, "sketch.png": sketch, "reference.jpg": reference}


def triples(shard: int, keys: Sequence[str], pictures: Sequence[bytes]) -> Iterator[tuple[str, Sample]]:
    for i, key in enumerate(keys):
        yield key, triple(pictures[i % len(pictures)], key)


def cpu_ms(step: Callable[[int], object]) -> float:
    """Milliseconds of the step a picture."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for i in range(PICTURES):
            step(i)
        times.append(time.process_time() - start)
    return min(times) / PICTURES * 1e3


def steps(pictures: Sequence[bytes]) -> dict[str, float]:
    """Milliseconds of each step."""
    images = [fitted(data, SIZE, "pad")[0] for data in pictures]
    colors = [encode(image, **JPEG) for image in images]
    lines = [xdog(image, SIGMA) for image in images]
    maps = [deformation(str(i)) for i in range(PICTURES)]
    bent = [warp(image, backward) for image, backward in zip(images, maps, strict=True)]
    decode = cpu_ms(lambda i: from_bytes(pictures[i]))
    return {
        "decode": decode,
        "resize": cpu_ms(lambda i: fitted(pictures[i], SIZE, "pad")) - decode,
        "encode color (JPEG 95)": cpu_ms(lambda i: encode(images[i], **JPEG)),
        "decode color, twice": 2 * cpu_ms(lambda i: from_bytes(colors[i])),
        "XDoG": cpu_ms(lambda i: xdog(images[i], SIGMA)),
        "encode sketch (PNG)": cpu_ms(lambda i: encode(lines[i], "png")),
        "MLS: points, map, folds": cpu_ms(lambda i: deformation(str(i))),
        "MLS: sample": cpu_ms(lambda i: warp(images[i], maps[i])),
        "encode reference (JPEG 95)": cpu_ms(lambda i: encode(bent[i], **JPEG)),
    }


def build_seconds(pictures: Sequence[bytes], workers: int) -> float:
    """Wall time of a column of all three images."""
    shards = [[f"{i}_{j}" for j in range(ROWS)] for i in range(SHARDS)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        build_column(Path(folder), shards, partial(triples, pictures=pictures), {}, workers=workers)
        return time.perf_counter() - start


def main() -> None:
    sets = {name: [picture(i, grain) for i in range(PICTURES)] for name, grain in (("flat", 0.0), ("painted", 6.0))}
    print("source files: " + ", ".join(f"{name} {np.mean([*map(len, data)]) / 1000:.0f} kB" for name, data in sets.items()))
    tables = {name: steps(data) for name, data in sets.items()}
    print(f"{'ms of one core a triple':28}" + "".join(f"{name:>10}" for name in tables))
    for step in tables["flat"]:
        print(f"{step:28}" + "".join(f"{table[step]:10.2f}" for table in tables.values()))
    for line, value in (("sum", sum), ("triples a core second", lambda times: 1000 / sum(times))):
        print(f"{line:28}" + "".join(f"{value(table.values()):10.1f}" for table in tables.values()), flush=True)

    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(BUILDS):
        for workers, measured in rates.items():
            measured.append(SHARDS * ROWS / build_seconds(sets["painted"], workers))
    one, two = (max(measured) for measured in rates.values())
    print(f"painted, with tar files, best of {BUILDS} builds each, in turn:")
    print(f"1 worker {one:.1f} triples/s, 2 workers {two:.1f} triples/s, ratio {two / one:.2f}")
    print(f"median ratio of a pair {np.median(np.divide(rates[2], rates[1])):.2f}, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
