"""What a training run shows of itself while it runs: the loss by timestep, the gradient, speed and memory."""

import time
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor

from src.model.diffusion import T

# Dense bf16 operations a second, from NVIDIA's data sheets; longer names first, as the first that fits is taken.
PEAK_FLOPS = {
    "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12,
    "RTX 3090": 71e12, "A10": 125e12, "V100": 125e12,
}  # fmt: skip


class Watch(lightning.Callback):
    """Every `every` updates logs `train/loss_q1` to `_q4` (timesteps 0-249, ..., 750-999), gradient norm, skipped updates,
    `images_per_second` over all ranks, `mfu` where the device's peak is known, and `gpu_memory_gib` (peak since the last time).

    flops: operations of one sample's forward pass; a training step is three times that.
    """

    def __init__(self, every: int, batch: int, flops: float) -> None:
        self.every, self.batch, self.flops = every, batch, flops
        self.sums, self.counts = torch.zeros(4), torch.zeros(4)
        self.batches, self.began, self.seen = 0, time.perf_counter(), -1

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.sums, self.counts = self.sums.to(module.device), self.counts.to(module.device)
        self.batches, self.began, self.seen = 0, time.perf_counter(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        quarter = outputs["t"] * 4 // T
        self.sums.index_add_(0, quarter, outputs["losses"].float())
        self.counts.index_add_(0, quarter, torch.ones_like(quarter, dtype=torch.float))
        self.batches += 1
        if trainer.global_step == self.seen or trainer.global_step % self.every:
            return
        self.seen = trainer.global_step
        seconds = time.perf_counter() - self.began
        rate = self.batches * self.batch * trainer.world_size / seconds
        numbers = by_quarter(
            trainer.strategy.reduce(self.sums, reduce_op="sum"), trainer.strategy.reduce(self.counts, reduce_op="sum")
        )
        numbers |= {"train/gradient_norm": module.gradient_norm, "train/skipped": module.skipped, "images_per_second": rate}
        if module.device.type == "cuda":
            peak = peak_flops(torch.cuda.get_device_name(module.device))
            if peak:
                numbers["mfu"] = 3 * self.flops * rate / trainer.world_size / peak
            numbers["gpu_memory_gib"] = torch.cuda.max_memory_allocated(module.device) / 2**30
            torch.cuda.reset_peak_memory_stats(module.device)
        for logger in trainer.loggers:
            logger.log_metrics(numbers, trainer.global_step)
        self.sums.zero_()
        self.counts.zero_()
        self.batches, self.began = 0, time.perf_counter()


def by_quarter(sums: Tensor, counts: Tensor) -> dict[str, float]:
    """Mean losses of the quarters of the timesteps that had a sample, from sums [4] and counts [4]."""
    return {f"train/loss_q{i + 1}": s / n for i, (s, n) in enumerate(zip(sums.tolist(), counts.tolist(), strict=True)) if n}


def peak_flops(device_name: str) -> float | None:
    """The peak of the device that Watch's MFU is a share of; None for one that is not in the table."""
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


def forward_flops(network: Mapping[str, Any], kind: str, tokens: int) -> float:
    """Floating-point operations of one sample's pass through a colorizer, its sketch encoder included; counted on the meta device.

    tokens: how many reference tokens the cross-attention sees.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from src.model.colorizer import Colorizer

    side = network["latent_size"]
    with torch.device("meta"):
        colorizer = Colorizer(network, kind)
        z = torch.zeros(1, network["latent_channels"], side, side)
        context = torch.zeros(1, 1 if kind == "cls" else tokens, network["context_width"])
        sketch = torch.zeros(1, 3, *(side * 2 ** (len(network["stem"]) - 1),) * 2)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            colorizer(z, torch.zeros(1, dtype=torch.long), context, sketch=sketch)
    return float(counter.get_total_flops())
