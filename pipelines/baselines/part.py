"""Stage: trains a part of the baselines by `src.adapt` and copies it into the backbone. `... part <name> [Hydra overrides]`."""

import shutil
from pathlib import Path

from pipelines import code_hash, continued, run_stage
from src.adapt import adapt
from src.baselines.adapters import CARD, CONFIG, IP_ADAPTER, WEIGHTS
from src.config import compose

STAGES = "pipelines/baselines/dvc.yaml"


def main(arguments: list[str]) -> None:
    name, *overrides = arguments
    runs = continued(Path("runs/baselines") / name, code_hash(name, STAGES))
    config = compose([*overrides, f"output={runs / 'part'}", "overwrite=true"], "adapt")
    folder, target = adapt(config), Path(config.weights.directory) / name
    target.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG, WEIGHTS, IP_ADAPTER, CARD):
        if (folder / file).exists():
            shutil.copyfile(folder / file, target / file)


if __name__ == "__main__":
    run_stage(main)
