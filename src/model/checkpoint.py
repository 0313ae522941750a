"""Checkpoints to resume from, which appear whole or not at all, and leaving with one when the run is asked to stop."""

import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from src.files import Stopped, write_atomically


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


# torchrun passes on a signal that its processes have had already, so one that follows at once is the same one.
SAME_SIGNAL = 2.0


class Checkpoints(Checkpoint):
    """Saves `path` after every epoch, and every so many updates (`every`; None = no more often).

    On SIGTERM or SIGINT, and on SIGUSR2 where somebody waits for it (submitit, before a SLURM job's time is over), the update
    under way is finished, then `path` is saved and Stopped raised. Two seconds later a signal is again what it usually is.
    """

    def __init__(self, path: Path, every: int | None) -> None:
        self.path, self.every, self.step = path, every, -1
        self.asked, self.asked_by = 0.0, 0  # when, and by which signal
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        # Here and not earlier: Lightning installs handlers of its own when it starts, which leave without the checkpoint.
        self.step = trainer.global_step
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGUSR2) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            numbers.append(signal.SIGUSR2)
        for number in numbers:
            self.before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        if not self.asked:
            self.asked, self.asked_by = time.monotonic(), number
        elif time.monotonic() - self.asked > SAME_SIGNAL:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            signal.raise_signal(number)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int) -> None:
        updated, self.step = trainer.global_step != self.step, trainer.global_step
        # Gradients of a half accumulated update are in no checkpoint, and an epoch's last update is saved when the epoch is over:
        # a run that resumes from it would skip what comes at an epoch's end.
        if not updated or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        leaving = self._leaving(trainer)
        if leaving or (self.every and self.step % self.every == 0):
            trainer.save_checkpoint(self.path)
        if leaving:
            self._leave()

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        leaving = self._leaving(trainer)
        trainer.save_checkpoint(self.path)
        if leaving and trainer.current_epoch + 1 < trainer.max_epochs:
            self._leave()

    def _leaving(self, trainer: Any) -> bool:
        return trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False)  # one process that is asked is enough

    def _leave(self) -> None:
        if self.asked_by == signal.SIGUSR2:
            self.before[signal.SIGUSR2](signal.SIGUSR2, None)  # submitit queues the job again
        raise Stopped(f"stopped after {self.step} updates and saved {self.path}; the same command continues.")

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}
