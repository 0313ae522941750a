"""Stage: features of all held-out drawings, which every Frechet and kernel distance is held against. `python -m pipelines.real`."""

from pathlib import Path

from pipelines import run_stage, stage_config
from src.backbone.parts import load_backbone
from src.evaluate import square
from src.measure import feature_networks, real_features


def main(_: list[str]) -> None:
    config = stage_config([], "evaluate")
    backbone = load_backbone(config.backbone)
    split = Path(config.data.root) / "val"
    made = {real_features(split, network, backbone, square(config)) for network in feature_networks(backbone).values()}
    for path in made:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    for path in {path for one in made for path in one.parent.iterdir()} - made:
        path.unlink()  # of other data, or another backbone


if __name__ == "__main__":
    run_stage(main)
