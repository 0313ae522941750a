"""Sampling with dual guidance: ours against a straightforward loop, in one run, with the largest difference of their results.

`python -m benchmarks.sample [compile]`. The loop makes three passes a step (whole; without reference; with an empty sketch), each
with the sketch itself, in the default layout. Without a GPU: the shipped Noisy model at the demo's size, in float32. With one: the
paper's size with random weights, 512 and 768 px; the loop in eager fp16, ours in bf16, compiled.
"""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.backbone.parts import fingerprint
from src.config import compose, plain
from src.model.colorizer import Colorizer, load_colorizer
from src.sampling.batch import replica
from src.sampling.guidance import combine
from src.sampling.sampler import generators, noise, sample
from src.sampling.solvers import solver_of

STEPS, GS, SGS = 20, 3.0, 1.5
REPEATS = 3


@torch.inference_mode()
def straightforward(colorizer: Colorizer, sketch: Tensor, tokens: Tensor, seeds: list[int], factor: int) -> Tensor:
    """The same numbers without any of what makes it fast."""
    weight = next(colorizer.parameters())
    solver, used, empty = solver_of("dpmpp_2m", "vp", STEPS), colorizer.used(tokens), torch.full_like(sketch, -1)
    z = noise(generators(seeds), (4, sketch.shape[-2] // factor, sketch.shape[-1] // factor)).to(weight.device)
    z = z * solver.init_noise_sigma
    for t in solver.timesteps:
        times = t.to(weight.device).expand(len(z))
        passes = ((used, sketch), (torch.zeros_like(used), sketch), (used, empty))
        cond, no_reference, no_sketch = (
            colorizer(z.to(weight.dtype), times, seen.to(weight.dtype), sketch=lines.to(weight.dtype)).float()
            for seen, lines in passes
        )
        z = solver.step(combine(cond, no_reference, no_sketch, GS, SGS), t, z).prev_sample
    return z


def seconds(run: Any) -> tuple[float, Tensor]:
    """The quickest of some runs, after one to warm up, and the result."""
    cuda, result, times = torch.cuda.is_available(), run(), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times), result


def compared(plainly: Colorizer, ours: Colorizer, batch: int, size: int, factor: int, tokens: int, width: int) -> None:
    weight = next(ours.parameters())
    source = torch.Generator().manual_seed(0)
    sketch = (torch.rand(batch, 1, size, size, generator=source) > 0.9).float().expand(-1, 3, -1, -1) * 2 - 1
    seen = torch.randn(batch, 1 + tokens, width, generator=source)
    sketch, seen, seeds = sketch.to(weight.device), seen.to(weight.device), list(range(batch))
    loop, expected = seconds(lambda: straightforward(plainly, sketch, seen, seeds, factor))
    options: dict[str, Any] = {"latent_channels": 4, "factor": factor, "steps": STEPS, "gs": GS, "sgs": SGS}
    fast, got = seconds(lambda: sample(ours, sketch, seen, seeds, **options))
    difference = float((got - expected).abs().max())
    print(
        f"{size} px, batch {batch:3}: loop {batch / loop:6.2f} images/s, ours {batch / fast:6.2f} images/s "
        f"({fast / batch:.2f} s an image), ratio {loop / fast:.2f}; largest difference of a latent {difference:.1e}",
        flush=True,
    )


def demo(compiled: bool) -> None:
    directory = Path(compose().backbone.directory)
    colorizer, _ = load_colorizer(directory / "noisy" / "model", fingerprint({"directory": directory}))
    ours = replica(colorizer, torch.device("cpu"), compiled=compiled)
    colorizer.to(memory_format=torch.contiguous_format)
    print(f"CPU, {torch.get_num_threads()} threads, demo, float32, GS {GS}, SGS {SGS}{', compiled' if compiled else ''}")
    for batch in (1, 8, 32):
        compared(colorizer, ours, batch, 64, 4, 64, 128)


def paper() -> None:
    device, network = torch.device("cuda"), plain(compose(["backbone=sd21", "scale=paper"]).backbone.unet)
    with device:
        colorizer = Colorizer(network, "attention")
    print(f"{torch.cuda.get_device_name()}, Stable Diffusion 2.1's size, GS {GS}, SGS {SGS}; loop eager fp16, ours compiled bf16")
    ours = replica(colorizer, device, "bf16", compiled=True)
    plainly = replica(colorizer, device, "fp16").to(memory_format=torch.contiguous_format)
    for size, batches in ((512, (1, 8, 32)), (768, (1, 8))):
        for batch in batches:
            compared(plainly, ours, batch, size, 8, 256, 1024)


if __name__ == "__main__":
    if torch.cuda.is_available():
        paper()
    else:
        demo("compile" in sys.argv[1:])
