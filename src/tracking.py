"""MLflow: one experiment a scale, one run a trained model; evaluation adds to the run of its model."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from src.config import plain

# MLflow announces every schema migration; a user needs none of it.
logging.getLogger("alembic").setLevel(logging.WARNING)


def client(uri: str) -> Any:
    """MLflow's client. A lock lets one process at a time make a new SQLite store: MLflow's migrations do not survive two."""
    from contextlib import nullcontext

    from filelock import FileLock
    from mlflow import MlflowClient

    with FileLock(f"{uri.removeprefix('sqlite:///')}.lock") if uri.startswith("sqlite:///") else nullcontext():
        return MlflowClient(tracking_uri=uri)


def run_logger(config: DictConfig, name: str, folder: Path) -> Any:
    """Lightning's MLflow logger with the run's configuration as flat parameters. A resumed run goes on in its MLflow run."""
    from lightning.pytorch.loggers import MLFlowLogger

    tracking, marker = client(config.tracking_uri), folder / "mlflow_run"
    run_id = _known(tracking, marker)
    logger = MLFlowLogger(
        config.scale.name, run_name=name, tracking_uri=config.tracking_uri, artifact_location=_artifacts(), run_id=run_id
    )
    keys = ("seed", "drop", "noisy", "dual", "epochs", "model", "data", "scale")
    if run_id is not None:
        return logger
    marker.write_text(str(logger.run_id))
    values = plain(config)
    logger.log_hyperparams({"name": name, "backbone": config.backbone.name, **{key: values[key] for key in keys}})
    return logger


def _known(tracking: Any, marker: Path) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return tracking.get_run(marker.read_text()).info.run_id
    except (FileNotFoundError, MlflowException):
        return None


def _artifacts() -> str:
    return Path("mlartifacts").resolve().as_uri()


def log_table(run_id: str, values: Mapping[float, float], metric: str, uri: str) -> None:
    """A metric against the guidance scale: MLflow's step is GS, so that its charts show the curve."""
    tracking = client(uri)
    for gs, value in values.items():
        tracking.log_metric(run_id, metric, value, step=int(gs))


def log_image(run_id: str, image: np.ndarray, name: str, uri: str) -> None:
    """uint8 [H, W, 3] as an artifact."""
    from PIL import Image

    client(uri).log_image(run_id, Image.fromarray(image), name)
