"""Makes an MLflow model of a checkpoint: `python -m src.serving checkpoint=<a run's folder> output=<folder>` (docs/serving.md)."""

import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from src.config import CONF, ROOT, plain
from src.entry import quoted, reported
from src.files import UserError

PATHS = ("checkpoint", "output")
PACKAGES = ("diffusers", "hydra-core", "mlflow", "numpy", "open_clip_torch", "pandas", "pillow", "safetensors", "scipy", "torch")
FILES_OF_PAIRS = {"sketch", "reference", "pairs", "output", "from_png", "start", "batch"}


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="serving")
@reported
def main(config: DictConfig) -> None:
    if OmegaConf.is_missing(config, "output"):
        raise UserError("Say output=<a new folder>.")
    export(plain(config))


def export(values: Mapping[str, Any]) -> None:
    """Writes the MLflow model of a configuration (`conf/serving.yaml`, as a plain dictionary): code, weights and the backbone's
    own files, no pickle; a backbone of public parts stays where its configuration says. It appears whole or not at all.

    UserError: the folder is there already, or the checkpoint and the backbone do not work together.
    """
    import mlflow.pyfunc

    from src.picture import load
    from src.recipe import check
    from src.served import signature

    settings = {key: value for key, value in values.items() if key not in FILES_OF_PAIRS}
    check(settings)
    output = Path(values["output"])
    if output.exists():
        raise UserError(f"{output} is there already. Give output=<a new folder>.")
    model = load(settings)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent) as folder:
        artifacts = {"checkpoint": _copied(Path(settings["checkpoint"]), ["model"], Path(folder) / "checkpoint")}
        if "parts" not in settings["backbone"]:
            artifacts["backbone"] = _copied(Path(settings["backbone"]["directory"]), ["vae", "clip"], Path(folder) / "backbone")
        mlflow.pyfunc.save_model(
            Path(folder) / "model",
            python_model=ROOT / "src/served.py",
            code_paths=[str(ROOT / "src")],
            artifacts=artifacts,
            model_config={"settings": settings},
            signature=signature(settings, model),
            pip_requirements=[f"{name}=={version(name)}" for name in PACKAGES],
        )
        (Path(folder) / "model").rename(output)
    print(f"{output}: {model.name}, as an MLflow model")


def _copied(source: Path, names: list[str], target: Path) -> str:
    """Copies weights and cards of these names."""
    target.mkdir()
    for name in names:
        for suffix in (".safetensors", ".json"):
            shutil.copyfile(source / f"{name}{suffix}", target / f"{name}{suffix}")
    return str(target)


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:], PATHS, ["edits"])
    main()
