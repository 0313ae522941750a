"""Checkpoints to resume from, which appear whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from src.files import write_atomically


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
