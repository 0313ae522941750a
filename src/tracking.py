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
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def run_logger(config: DictConfig, name: str) -> Any:
    """Lightning's MLflow logger with the run's whole configuration as flat parameters."""
    from lightning.pytorch.loggers import MLFlowLogger

    logger = MLFlowLogger(config.scale.name, run_name=name, tracking_uri=config.tracking_uri, artifact_location=_artifacts())
    keys = ("seed", "drop", "noisy", "dual", "epochs", "model", "data", "scale")
    values = plain(config)
    logger.log_hyperparams({"name": name, "backbone": config.backbone.name, **{key: values[key] for key in keys}})
    return logger


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
