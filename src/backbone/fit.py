"""The one training loop of the backbone's own parts: AdamW, warm-up and cosine, weight average, resumable checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def batches(count: int, size: int, seed: int, start: int = 0) -> Iterator[np.ndarray]:
    """Endless shuffled epochs of row numbers, `size` at a time; batch i depends on (seed, i) alone."""
    per_epoch = count // size
    step = start
    while True:
        epoch, within = divmod(step, per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(count)
        for i in range(within, per_epoch):
            yield order[i * size : (i + 1) * size]
            step += 1


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then cosine to a hundredth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def fit(
    model: nn.Module,
    loss: Callable[[np.ndarray], dict[str, Tensor]],
    *,
    rows: int,
    steps: int,
    batch: int,
    peak: float,
    seed: int,
    checkpoint: Path,
    weight_decay: float = 0.01,
    warmup: int = 100,
    decay: float = 0.999,
    log_every: int = 100,
    save_every: int = 500,
) -> dict[str, float]:
    """Trains `model` in place, ends with its weights averaged, and returns the last running means.

    `loss(row_numbers)` gives named scalars; the one called "loss" is minimised. A run that was stopped continues at `checkpoint`.
    """
    optimizer = torch.optim.AdamW(model.parameters(), peak, (0.9, 0.99), weight_decay=weight_decay)
    average = {name: value.detach().clone() for name, value in model.state_dict().items()}
    start, seconds = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start, seconds = state["average"], state["step"], state["seconds"]
    means: dict[str, float] = {}
    began = time.perf_counter() - seconds
    model.train()
    for step, chosen in zip(range(start, steps), batches(rows, batch, seed, start), strict=False):
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak, warmup)
        values = loss(chosen)
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            weight = min(decay, (step + 1) / (step + 10))
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - weight)
                else:
                    average[name].copy_(value)
        for name, value in values.items():
            means[name] = 0.98 * means.get(name, float(value.detach())) + 0.02 * float(value.detach())
        if (step + 1) % log_every == 0:
            rate = (step + 1) * batch / (time.perf_counter() - began)
            shown = " ".join(f"{name} {value:.4f}" for name, value in means.items())
            print(f"{step + 1}/{steps} {shown} {rate:.1f} samples/s", flush=True)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            temporary = checkpoint.with_suffix(".tmp")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            torch.save({**state, "step": step + 1, "seconds": time.perf_counter() - began}, temporary)
            temporary.replace(checkpoint)
    model.load_state_dict(average)
    return {**means, "minutes": (time.perf_counter() - began) / 60}
