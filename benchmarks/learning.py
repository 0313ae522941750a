"""Does every scheme learn? Validation loss before and after a short training on the demo's data, and one batch learned by heart.

`python -m benchmarks.learning [updates]` after `dvc repro`. Expected: every loss falls; without reference Dual and Drop models
are better than Shuffle-0 (the paper's claim behind its Figure 13); one batch falls below 5 % of where it started.
"""

import sys
from pathlib import Path
from typing import Any

import torch

from src.config import compose, plain
from src.data.loader import EpochLoader, Table
from src.fit import columns_of
from src.model.colorizer import Colorizer, pretrained
from src.model.training import Training
from src.train import name_of

SCHEMES = [
    "model=shuffle",
    "model=deform",
    "model=shuffle drop=0.8",
    "model=shuffle noisy=true",
    "model=shuffle dual=4",
    "model=cls",
]


def module_of(config: Any, colorizer: Colorizer) -> Training:
    scheme = {"shuffled": config.model.shuffled, "noisy": config.noisy, "drop_rate": config.drop, "dual": config.dual}
    return Training(colorizer, scheme, plain(config.scale.loss), plain(config.scale.optimizer), config.seed)


def optimizer_of(module: Training, peak: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), peak, weight_decay=0.01)


def update(module: Training, optimizer: torch.optim.Optimizer, batch: dict[str, Any], seed: int) -> float:
    loss = module.losses(batch, torch.Generator().manual_seed(seed))[0].mean()
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def schemes(updates: int) -> None:
    print(f"{'scheme':16} {'with reference':>22} {'without reference':>22}   (before -> after {updates} updates)")
    for overrides in SCHEMES:
        config = compose(["scale=demo", *overrides.split()])
        root = Path(config.data.root)
        loader = EpochLoader(Table(root / "train", columns_of(config)), config.scale.batch, updates * config.scale.batch, 0)
        table = Table(root / "val", ["latent", "tokens", "sketch"])
        held_out = table.collate(range(config.scale.validation))
        module = module_of(config, pretrained(config.backbone, config.model.kind))

        def measured(module: Training = module, held_out: dict[str, Any] = held_out) -> list[float]:
            with torch.inference_mode():
                return [float(losses.mean()) for losses in module.validation_losses(held_out, 0).values()]

        before = measured()
        optimizer = optimizer_of(module, config.scale.optimizer.peak)
        for i, batch in enumerate(loader):
            update(module, optimizer, batch, i)
        shown = [f"{b:.4f} -> {a:.4f}" for b, a in zip(before, measured(), strict=True)]
        print(f"{name_of(config):16} {shown[0]:>22} {shown[1]:>22}", flush=True)


def one_batch(updates: int) -> None:
    """From random weights, so that the start knows nothing."""
    config = compose(["scale=demo"])
    batch = Table(Path(config.data.root) / "train", columns_of(config)).collate(range(config.scale.batch))
    torch.manual_seed(0)
    module = module_of(config, Colorizer(plain(config.backbone.unet), "attention"))

    def measured() -> float:
        with torch.inference_mode():
            return sum(float(module.losses(batch, torch.Generator().manual_seed(i))[0].mean()) for i in range(10**6, 10**6 + 8)) / 8

    start = measured()
    optimizer = optimizer_of(module, 1e-3)
    for i in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, 2 * (1 - i / updates))
        update(module, optimizer, batch, i)
        if (i + 1) % (updates // 5) == 0:
            print(f"one batch, {i + 1:5} updates: {measured() / start:.1%} of the starting loss {start:.3f}", flush=True)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    schemes(count)
    one_batch(6 * count)
