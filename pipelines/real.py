"""Stage: features of all held-out drawings, which every Frechet and kernel distance is held against. `python -m pipelines.real`."""

from pathlib import Path

from pipelines import code_hash, continued, run_stage, stage_config
from src.backbone.parts import load_backbone
from src.evaluate import square
from src.measure import feature_networks, real_features


def main(_: list[str]) -> None:
    config = stage_config([], "evaluate")
    backbone = load_backbone(config.backbone)
    split = Path(config.data.root) / "val"
    continued(split.parent / "features", code_hash("real"))
    made = {real_features(split, network, square(config)) for network in feature_networks(backbone).values()}
    for path in made:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    for path in {path for one in made for path in one.parent.glob("*.npy")} - made:
        path.unlink()  # of other data, or another backbone


if __name__ == "__main__":
    run_stage(main)
