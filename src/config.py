"""One way to compose `conf/`: for a stage, a test and a notebook alike."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"


def compose(overrides: Sequence[str] = (), config: str = "train") -> DictConfig:
    """The composed configuration, as Hydra would give it to an entry point."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    # An entry point that is under way has Hydra set up for the same folder.
    with nullcontext() if GlobalHydra.instance().is_initialized() else initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose(config, overrides=list(overrides))


def plain(config: DictConfig) -> dict[str, Any]:
    """A part of the configuration as a plain dictionary, references resolved."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
