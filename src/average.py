"""Makes a model of a run's averaged weights: `python -m src.average run=<folder> width=0.07 [step=...] [output=<folder>]`."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from src.config import CONF
from src.entry import quoted, reported
from src.files import UserError


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="average")
@reported
def main(config: DictConfig) -> None:
    missing = [key for key in ("run", "width") if OmegaConf.is_missing(config, key)]
    if missing:
        raise UserError(f"Say {' and '.join(f'{key}=...' for key in missing)}.")
    from src.backbone.parts import load_card, save_weights
    from src.model.ema import reconstruct

    run = Path(config.run)
    card = load_card(run / "model")
    weights = reconstruct(run / "ema", config.width, config.step)
    output = Path(config.output or run / f"average-{config.width:g}")
    save_weights(output / "model", weights, {**card, "name": f"{card['name']}, average {config.width:g}", "mlflow_run": None})
    print(f"{output}: {card['name']}, weights averaged with relative width {config.width:g}")


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], ("run", "output"))
    main()
