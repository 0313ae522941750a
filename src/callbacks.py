"""What a run leaves behind while it trains: grids of held-out drawings in MLflow, and the weights of chosen epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from omegaconf import DictConfig

from src.backbone.parts import Backbone, save_weights
from src.config import plain
from src.files import UserError
from src.held_out import Pairs
from src.methods import colorize


class Grids(lightning.Callback):
    """Colours the same held-out sketches every `every` updates; 0 = never."""

    def __init__(self, every: int, config: DictConfig, backbone: Backbone, pairs: Pairs) -> None:
        self.every, self.config, self.backbone, self.pairs, self.seen = every, config, backbone, pairs, 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        step = trainer.global_step
        if not self.every or step == self.seen or step % self.every or not trainer.is_global_zero:
            return
        self.seen = step
        module.colorizer.eval()
        log_grid(self.config, module.colorizer, self.backbone, self.pairs, trainer.logger.run_id, f"samples-{step:08d}.png")
        module.colorizer.train()


def log_grid(config: DictConfig, colorizer: Any, backbone: Backbone, pairs: Pairs, run_id: str, name: str) -> None:
    """Held-out sketch, reference and result at GS 2, one pair a row, as an MLflow image."""
    from src.grids import rows_image
    from src.tracking import log_image

    backbone.to(next(colorizer.parameters()).device)
    results = colorize(colorizer, backbone, pairs.batch, sampler=plain(config.sampler), gs=2.0)
    log_image(run_id, rows_image([pairs.sketches, pairs.references, results]), name, config.tracking_uri)


class KeepEpochs(lightning.Callback):
    """Keeps the weights after the named epochs (1 = the first) in `<folder>/epoch-<n>/`, as models of their own. They are those
    that train, also where the run ends with an average.
    """

    def __init__(self, epochs: Sequence[int], folder: Path, card: Mapping[str, Any]) -> None:
        self.epochs, self.folder, self.card = set(epochs), folder, dict(card)

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        beyond = [epoch for epoch in self.epochs if not 1 <= epoch <= trainer.max_epochs]
        if beyond:
            raise UserError(f"keep_epochs names epoch {beyond[0]}; the run has the epochs 1 to {trainer.max_epochs}.")

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        epoch = trainer.current_epoch + 1
        if epoch not in self.epochs:
            return
        state: dict[str, torch.Tensor] = trainer.strategy.lightning_module_state_dict()  # every process takes part in it
        if trainer.is_global_zero:
            weights = {key.removeprefix("colorizer."): value for key, value in state.items()}
            card = {**self.card, "name": f"{self.card['name']}, epoch {epoch}", "steps": trainer.global_step}
            save_weights(self.folder / f"epoch-{epoch}" / "model", weights, card)
