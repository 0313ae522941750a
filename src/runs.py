"""What belongs to every training run: its folder's state, and the data that it is made from."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from src.files import UserError, write_atomically
from src.launch import rank


def data_hashes(config: DictConfig, columns: Sequence[str]) -> dict[str, str]:
    """The hash of each column of the training split."""
    from src.data.columns import contents, read_index
    from src.data.storage import folder

    root = folder(config.data.root) / "train"
    return {column: contents(read_index(root / column)) for column in columns}


def state_of(
    folder: Path, identity: str, overwrite: bool, keep_epochs: Sequence[int] = (), finished: str = "model.safetensors"
) -> str:
    """`finished`, `started` or `new`. UserError rather than a lost run where the folder belongs to another configuration."""
    marker = folder / "identity"
    if rank():  # the first process decides, the others wait for it
        deadline = time.monotonic() + 60
        while not (marker.exists() and marker.read_text() == identity) and time.monotonic() < deadline:
            time.sleep(0.1)
    trouble = None
    if marker.exists() and marker.read_text() != identity:
        trouble = f"{folder} holds a run with other settings. Move it away, choose another folder, or pass overwrite=true."
    elif (folder / finished).exists():
        lost = [epoch for epoch in keep_epochs if not (folder / f"epoch-{epoch}").exists()]
        if not lost:
            return "finished"
        trouble = f"{folder} is finished and did not keep the weights of epoch {lost[0]}; overwrite=true trains it again."
    if trouble:
        if not overwrite:
            raise UserError(trouble)
        shutil.rmtree(folder)
    if marker.exists():
        return "started"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(marker, lambda f: f.write(identity.encode()))
    return "new"
