"""Checkpoints to resume from, which appear whole or not at all, and leaving with one when the run is asked to stop."""

import signal
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from src.files import UserError, write_atomically


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target and renames. Lightning's own goes through the system's temporary folder: where that is another
    file system, a full disk leaves half a file in place of the previous checkpoint.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), lambda f: _save(checkpoint, f))


def _save(checkpoint: dict[str, Any], file: Any) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's writer falls over the file's own error, which says what is wrong
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None


class Stopped(UserError):
    """The run was asked to stop, and left a checkpoint."""


class LeaveOnSignal(lightning.Callback):
    """On SIGTERM or SIGINT finishes the update under way, saves `path` and raises Stopped. A second signal is the usual one."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked = path, False
        self.before: dict[int, Any] = {}
        self.step = -1

    def on_train_start(self, trainer: Any, module: Any) -> None:
        # Here and not earlier: Lightning installs handlers of its own when it starts, which leave without the checkpoint.
        self.step = trainer.global_step
        for number in (signal.SIGTERM, signal.SIGINT):
            self.before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        updated, self.step = trainer.global_step != self.step, trainer.global_step
        # Gradients of a half accumulated update are in no checkpoint. One process that is asked is enough.
        if updated and trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            trainer.save_checkpoint(self.path)
            raise Stopped(f"stopped after {self.step} updates and saved {self.path}; the same command continues.")

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
