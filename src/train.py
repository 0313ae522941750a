"""Trains colorizers.

One run: `python -m src.train model=shuffle drop=0.8`; a sweep: `python -m src.train -m model=shuffle,deform drop=0,0.8`.

A finished run is a folder `<runs>/<name>` with `model.safetensors` and `model.json`; until then it holds `last.ckpt`, from which
the same command continues.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from src.config import CONF, plain
from src.entry import quoted, reported
from src.files import UserError, config_hash
from src.launch import launch, launched, rank
from src.runs import data_hashes, state_of

PATHS = ("ckpt_path", "runs", "data.root", "backbone.directory")
# These say where, how fast and how visibly a run is made, not what it is. Data and weights count by their hashes, devices by
# their number.
NOT_IDENTITY = (
    "runs", "overwrite", "ckpt_path", "keep_epochs", "workers", "tracking_uri", "sampler.", "trainer.", "data.",
    "scale.variants.", "scale.drawings.", "scale.evaluation.", "scale.grid", "scale.validation", "scale.log_every",
    "scale.checkpoint_every", "scale.compile", "scale.workers", "scale.gradient_checkpointing", "backbone.directory",
    "backbone.parts.", "backbone.data", "backbone.vae.", "backbone.clip.", "backbone.t2i.", "backbone.colorizers.",
    "backbone.variants.", "backbone.edit.",
)  # fmt: skip
SWEEP_KEYS = ("drop", "noisy", "dual", "epochs", "seed")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
@reported
def main(config: DictConfig) -> None:
    reason = impossible(plain(config))
    if reason is None:
        train(config)
    elif _in_sweep():
        from src.tracking import log_skipped

        print(f"skipped: {reason}")
        log_skipped(config, name_of(config), reason)
    else:
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)


def impossible(values: Mapping[str, Any]) -> str | None:
    """Why a combination of otherwise good values makes no model, in a sentence; None where it does. UserError for a bad value."""
    if not 0 <= values["drop"] <= 1:
        raise UserError(f"drop is {values['drop']}; it is a probability, 0 to 1.")
    if values["dual"] < 0:
        raise UserError(f"dual is {values['dual']}; it is lambda of Eq. 4, at least 0, and 0 turns dual training off.")
    if values["noisy"] and values["model"]["kind"] == "cls":
        return (
            "noisy training (Eq. 3) noises local tokens, and CLS models have none: choose model=shuffle or deform, or noisy=false."
        )
    return None


def name_of(config: DictConfig) -> str:
    """The run's name: its sweep keys, and whatever else differs from what the chosen groups say."""
    from src.model.naming import run_name

    usual = _usual(*(f"{group}={config[group].name}" for group in ("scale", "data", "backbone", "model")))
    values = _what(usual)
    changed = {key: value for key, value in _what(config).items() if key not in SWEEP_KEYS and values.get(key) != value}
    usual_parts = usual.backbone.get("parts", {})
    for part, source in config.backbone.get("parts", {}).items():
        if part in ("unet", "colorizer") and usual_parts.get(part) != source:
            changed[part] = Path(source).name
    return run_name(plain(config), changed)


def _usual(*groups: str) -> DictConfig:
    """What the chosen groups say by themselves."""
    from src.config import compose

    return compose(groups)


def _what(config: DictConfig) -> dict[str, Any]:
    """What makes the run what it is: the configuration by dotted keys, without places and ways to run it."""

    def flat(value: Any, key: str) -> dict[str, Any]:
        if isinstance(value, dict):
            return {k: v for part, inner in value.items() for k, v in flat(inner, f"{key}.{part}" if key else part).items()}
        return {key: value}

    return {key: value for key, value in flat(plain(config), "").items() if not key.startswith(NOT_IDENTITY)}


def _in_sweep() -> bool:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def train(config: DictConfig) -> Path:
    """Trains one run to its end, continuing where it stopped, and returns its folder."""
    from src.backbone.parts import fingerprint, load_card
    from src.fit import columns_of, fit, processes
    from src.model.colorizer import source_of

    name = name_of(config)
    folder = Path(config.runs) / name
    weights = {"weights": fingerprint(config.backbone), "start": source_of(config.backbone)}
    data = data_hashes(config, columns_of(config))
    # The batch of an update is that of all processes, so their number is part of what a run is.
    identity = config_hash(_what(config) | weights | {"data": data, "world": processes(config)})
    if state_of(folder, identity, config.overwrite, config.keep_epochs) == "finished":
        print(f"{name}: trained already, see {folder}")
        return folder
    if processes(config) == 1 or rank() is not None:
        fit(config, name, folder, identity, data, rank() or 0)
    else:
        _launch(config, name, processes(config))
    if not rank():
        print(f"{name}: {load_card(folder / 'model')['seconds']:.0f} s, see {folder}")
    return folder


def _launch(config: DictConfig, name: str, count: int) -> None:
    from hydra.core.hydra_config import HydraConfig

    if config.trainer.nodes > 1:
        raise UserError(
            "trainer.nodes is more than 1: start the command on every node with torchrun or srun, see docs/training.md."
        )
    launch("src.train", list(HydraConfig.get().overrides.task), count, name)


if __name__ == "__main__":
    if not launched():
        sys.argv[1:] = quoted(sys.argv[1:], PATHS)
    main()
