"""Does every scheme learn? Validation loss before and after a short training on the demo's data, and one batch learned by heart.

`python -m benchmarks.learning [updates]` after `dvc repro`. Expected: every loss falls; without reference Dual and Drop models
are better than Shuffle-0 (the paper's claim behind its Figure 13); one batch falls below 5 % of where it started.
"""

import logging
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning
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


def module_of(config: Any, colorizer: Colorizer, **optimizer: Any) -> Training:
    scheme = {"shuffled": config.model.shuffled, "noisy": config.noisy, "drop_rate": config.drop, "dual": config.dual}
    return Training(colorizer, scheme, plain(config.scale.loss), plain(config.scale.optimizer) | optimizer, config.seed)


def train(module: Training, batches: Iterable[dict[str, Any]], clip: float) -> None:
    """As a run trains: its optimizer with its warm-up, its clipping, its randomness."""
    trainer = lightning.Trainer(
        max_epochs=1, gradient_clip_val=clip, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, batches)


def schemes(updates: int) -> None:
    print(f"{'scheme':16} {'with reference':>22} {'without reference':>22}   (before -> after {updates} updates)")
    for overrides in SCHEMES:
        config = compose(["scale=demo", *overrides.split()])
        root = Path(config.data.root)
        loader = EpochLoader(Table(root / "train", columns_of(config)), config.scale.batch, updates * config.scale.batch, 0)
        held_out = Table(root / "val", ["latent", "tokens", "sketch"]).collate(range(config.scale.validation))
        module = module_of(config, pretrained(config.backbone, config.model.kind))

        def measured(module: Training = module, held_out: dict[str, Any] = held_out) -> list[float]:
            with torch.no_grad():
                return [float(losses.mean()) for losses in module.validation_losses(held_out, 0).values()]

        before = measured()
        train(module, loader, config.scale.clip)
        shown = [f"{b:.4f} -> {a:.4f}" for b, a in zip(before, measured(), strict=True)]
        print(f"{name_of(config):16} {shown[0]:>22} {shown[1]:>22}", flush=True)


def one_batch(updates: int) -> None:
    """From random weights, so that the start knows nothing; the rate falls to zero, for a short run to settle."""
    config = compose(["scale=demo"])
    batch = Table(Path(config.data.root) / "train", columns_of(config)).collate(range(config.scale.batch))
    torch.manual_seed(0)
    module = module_of(config, Colorizer(plain(config.backbone.unet), "attention"), peak=1e-3, decay_to_zero=True)

    def measured() -> float:
        with torch.no_grad():
            return sum(float(module.losses(batch, torch.Generator().manual_seed(i))[0].mean()) for i in range(8)) / 8

    start = measured()
    train(module, torch.utils.data.DataLoader([batch] * updates, batch_size=None), config.scale.clip)
    print(f"one batch, {updates} updates: {measured() / start:.1%} of the starting loss {start:.3f}", flush=True)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    schemes(count)
    one_batch(6 * count)
