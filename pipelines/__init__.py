"""DVC stages: read the configuration, call src, write outs. `params.yaml` chooses; `conf/` holds the values."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import compose
from src.files import UserError, config_hash, file_sha256, write_atomically


def params() -> dict[str, Any]:
    """What this pipeline run chooses."""
    import yaml

    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))


def chosen(extra: Sequence[str] = ()) -> list[str]:
    """params.yaml's choices as Hydra overrides, followed by `extra`."""
    values = params()
    return [*(f"{key}={values[key]}" for key in ("scale", "data", "seed")), *extra]


def overrides(values: Mapping[str, Any]) -> list[str]:
    """What params.yaml says of a stage's configuration, as Hydra overrides."""
    return [f"{key}={value}".replace(" ", "") for key, value in values.items()]


def stage_config(extra: Sequence[str] = (), config: str = "train") -> DictConfig:
    return compose(chosen(extra), config)


def code_hash(stage: str, file: str = "dvc.yaml") -> str:
    """The hash of a stage's code: of what lies below `src` among its deps in `file`, which alone says what code that is."""
    import yaml

    stages = yaml.safe_load(Path(file).read_text(encoding="utf-8"))["stages"]
    named = [Path(dep) for dep in stages[stage].get("do", stages[stage])["deps"] if dep.startswith("src/")]
    files = sorted(f for path in named for f in (path.rglob("*") if path.is_dir() else [path]))
    return config_hash({str(f): file_sha256(f) for f in files if f.is_file() and "__pycache__" not in f.parts})


def continued(folder: Path, identity: str) -> Path:
    """A stage's output as an earlier, perhaps interrupted, run of the stage left it; emptied if its identity was another one.

    What a stage finds finished there it does not make again. Its own checks know the configuration; `code_hash` knows the code.
    """
    marker = folder / ".identity"
    if not marker.exists() or marker.read_text() != identity:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write_atomically(marker, lambda f: f.write(identity.encode()))
    return folder


def run_stage(main: Callable[[list[str]], None]) -> None:
    """Runs a stage's main with the command's arguments; what a user can mend is one line and exit code 1."""
    from hydra.errors import HydraException

    try:
        main(sys.argv[1:])
    except (UserError, HydraException, OSError) as error:
        print(f"error: {str(error).splitlines()[0] if isinstance(error, HydraException) else error}", file=sys.stderr)
        sys.exit(1)
