"""Stage: trains one of the shipped colorizers by `src.train` and copies it into the backbone. `... colorizer <noisy|cls>`."""

import shutil
from pathlib import Path

from pipelines import code_hash, continued, run_stage
from pipelines.backbone import STAGES
from src.backbone.parts import load_card
from src.config import compose
from src.files import write_json
from src.train import train


def main(arguments: list[str]) -> None:
    (name,) = arguments
    backbone = compose().backbone
    runs = continued(Path(backbone.data) / "runs" / name, code_hash("colorizer", STAGES))
    folder = train(compose([*backbone.colorizers[name], f"runs={runs}", "overwrite=true"]))
    target = Path(backbone.directory) / name
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "model.safetensors", target / "model.safetensors")
    card = load_card(folder / "model")
    write_json(target / "model.json", {**card, "mlflow_run": None})  # the run is in the tracking store of another machine


if __name__ == "__main__":
    run_stage(main)
