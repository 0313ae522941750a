"""DVC stages: read the configuration, call src, write outs. `params.yaml` chooses; `conf/` holds the values."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import compose
from src.files import UserError


def params() -> dict[str, Any]:
    """What this pipeline run chooses."""
    import yaml

    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))


def chosen(extra: Sequence[str] = ()) -> list[str]:
    """params.yaml's choices as Hydra overrides, followed by `extra`."""
    values = params()
    return [*(f"{key}={values[key]}" for key in ("scale", "data", "seed")), *extra]


def stage_config(extra: Sequence[str] = (), config: str = "train") -> DictConfig:
    return compose(chosen(extra), config)


def run_stage(main: Callable[[list[str]], None]) -> None:
    """Runs a stage's main with the command's arguments; what a user can mend is one line and exit code 1."""
    from hydra.errors import HydraException

    try:
        main(sys.argv[1:])
    except (UserError, HydraException, OSError) as error:
        print(f"error: {str(error).splitlines()[0] if isinstance(error, HydraException) else error}", file=sys.stderr)
        sys.exit(1)
