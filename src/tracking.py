"""MLflow: one experiment a scale, one run a trained model; evaluation adds to the run of its model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from src.config import ROOT, plain

# MLflow announces every schema migration; a user needs none of it.
logging.getLogger("alembic").setLevel(logging.WARNING)


def client(uri: str) -> Any:
    """MLflow's client. A lock lets one process at a time make a new SQLite store: MLflow's migrations do not survive two."""
    from contextlib import nullcontext

    from filelock import FileLock
    from mlflow import MlflowClient

    with FileLock(f"{uri.removeprefix('sqlite:///')}.lock") if uri.startswith("sqlite:///") else nullcontext():
        return MlflowClient(tracking_uri=uri)


def run_logger(config: DictConfig, name: str, folder: Path, data: Mapping[str, str]) -> Any:
    """Lightning's MLflow logger with the run's configuration as flat parameters and as `config.yaml`, and with the hashes of the
    code and of the data columns as tags. A resumed run goes on in its MLflow run.
    """
    from lightning.pytorch.loggers import MLFlowLogger

    tracking, marker = client(config.tracking_uri), folder / "mlflow_run"
    _experiment(config.tracking_uri, config.scale.name)
    run_id = _known(tracking, marker)
    logger = MLFlowLogger(config.scale.name, run_name=name, tracking_uri=config.tracking_uri, run_id=run_id)
    keys = ("seed", "drop", "noisy", "dual", "epochs", "model", "data", "scale")
    if run_id is not None:
        return logger
    marker.write_text(str(logger.run_id))
    values = plain(config)
    logger.log_hyperparams({"name": name, "backbone": config.backbone.name, **{key: values[key] for key in keys}})
    tracking.log_text(logger.run_id, OmegaConf.to_yaml(config, resolve=True), "config.yaml")
    for key, value in {"git": _git_commit(), **{f"data.{column}": digest for column, digest in data.items()}}.items():
        tracking.set_tag(logger.run_id, key, value)
    return logger


def _git_commit() -> str:
    """The commit that runs, with `+` where files differ from it; `unknown` outside a repository."""
    import subprocess

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def log_skipped(config: DictConfig, name: str, reason: str) -> None:
    """A run that says why a combination of a sweep was not trained; one, however often the sweep is repeated."""
    tracking = client(config.tracking_uri)
    known = _experiment(config.tracking_uri, config.scale.name)
    if tracking.search_runs([known], f"tags.skipped != '' and attributes.run_name = '{name}'"):
        return
    run = tracking.create_run(known, run_name=name, tags={"skipped": reason})
    tracking.set_terminated(run.info.run_id, "KILLED")


def _known(tracking: Any, marker: Path) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return tracking.get_run(marker.read_text()).info.run_id
    except (FileNotFoundError, MlflowException):
        return None


def _experiment(uri: str, name: str) -> str:
    """The id of the experiment of a scale. A local store keeps artifacts beside itself, a server where it is told to."""
    from mlflow.exceptions import MlflowException

    tracking = client(uri)
    place = Path("mlartifacts").resolve().as_uri() if uri.startswith("sqlite:///") else None
    try:
        known = tracking.get_experiment_by_name(name)
        return known.experiment_id if known else tracking.create_experiment(name, place)
    except MlflowException:  # another job made it in between
        return tracking.get_experiment_by_name(name).experiment_id


def log_table(run_id: str, values: Mapping[float, float], metric: str, uri: str) -> None:
    """A metric against the guidance scale: MLflow's step is GS, so that its charts show the curve."""
    tracking = client(uri)
    for gs, value in values.items():
        tracking.log_metric(run_id, metric, value, step=int(gs))


def log_image(run_id: str, image: np.ndarray, name: str, uri: str) -> None:
    """uint8 [H, W, 3] as an artifact."""
    from PIL import Image

    client(uri).log_image(run_id, Image.fromarray(image), name)
