"""A data set is checked as a user does it."""

import shutil
from pathlib import Path

from src.data.columns import build_column, read_index, shard_keys
from tests.data.test_columns import make


def test_the_first_bad_shard_is_named(command, tmp_path: Path, data_root: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(data_root, root)

    def verify() -> tuple[int, str, str]:
        result = command("pipelines.verify", str(root), places=False)
        return result.returncode, result.stdout, result.stderr

    code, found, _ = verify()
    assert code == 0 and found.count(" rows") == 12 and f"{root}/val/tokens_deform: " in found
    build_column(root / "val/more", shard_keys(read_index(root / "val/color"))[:1], make, {})
    code, _, messages = verify()
    assert code == 1 and messages.startswith(f"error: The rows of {root}/val/more/00001.tar are not those of")
    shard = root / "train/latent/00001.tar"
    shard.write_bytes(bytes(len(shard.read_bytes())))
    code, _, messages = verify()
    assert code == 1 and messages.startswith(f"error: Shard {shard} differs") and "Traceback" not in messages
