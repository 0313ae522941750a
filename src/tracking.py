"""MLflow: training has an experiment a scale and a run a model; evaluation has an experiment a table and a run a row."""

import logging
from collections.abc import Mapping, Sequence
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
    """The id of an experiment, made if there is none. A local store keeps artifacts beside itself, a server where it is told to."""
    from mlflow.exceptions import MlflowException

    tracking = client(uri)
    place = Path("mlartifacts").resolve().as_uri() if uri.startswith("sqlite:///") else None
    try:
        known = tracking.get_experiment_by_name(name)
        return known.experiment_id if known else tracking.create_experiment(name, place)
    except MlflowException:  # another job made it in between
        return tracking.get_experiment_by_name(name).experiment_id


def log_evaluation(
    config: DictConfig,
    report: Mapping[str, Any],
    samples: Mapping[str, Mapping[str, np.ndarray]],
    keys: Sequence[str],
    grid: np.ndarray,
) -> str:
    """Puts a model's row of a table into MLflow as a run and returns its address in the dashboards.

    Every measure is a metric whose step is GS (for cells along SGS: the SGS), so that charts show curves; MLflow's steps are whole
    numbers, and cells between them are in the table of values alone. Beside them: the grid, each picture's values
    (`samples.json`), and the hashes of what made them as tags.

    Each table (`config.table`) has an experiment of its own, and there a parent run (`log_parent`). A row that is made anew
    takes the place of the old one.
    """
    from mlflow.entities import Metric

    tracking, uri = client(config.tracking_uri), config.tracking_uri
    experiment = _experiment(uri, f"{config.scale.name}: {config.table}")
    parent = table_run(config, config.table)
    name = report["name"]
    for old in tracking.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'"):
        if old.info.run_name == name:
            tracking.delete_run(old.info.run_id)
    run_id = tracking.create_run(experiment, run_name=name, tags={"mlflow.parentRunId": parent}).info.run_id
    metrics = []
    for measure, column in report["measures"].items():
        for cell, number in column.items():
            place = report["cells"][cell]
            step, suffix = (place["gs"] or 0, "") if place["sgs"] in {1, None} else (place["sgs"], f"/SGS at GS-{place['gs']:g}")
            if step != int(step):
                continue
            for part, value in number.items():
                metrics.append(Metric(_metric(measure, part) + suffix, value, 0, int(step)))
    for start in range(0, len(metrics), 1000):  # MLflow's limit
        tracking.log_batch(run_id, metrics[start : start + 1000])
    for key, value in _flat(report["made_from"]):
        tracking.set_tag(run_id, key, value)
    tracking.log_dict(run_id, {key: value for key, value in report.items() if key != "measures"}, "evaluation.json")
    rows = [(cell, key) for cell in samples for key in keys]
    table: dict[str, list[Any]] = {"cell": [cell for cell, _ in rows], "key": [key for _, key in rows]}
    for measure in dict.fromkeys(name for column in samples.values() for name in column):
        table[measure] = [value for column in samples.values() for value in _filled(column.get(measure), len(keys))]
    tracking.log_table(run_id, table, "samples.json")
    log_image(run_id, grid, "grid.png", uri)
    tracking.set_terminated(run_id)
    return f"#/experiments/{experiment}/runs/{run_id}"


def address(run_id: str | None, uri: str) -> str | None:
    """A run's address in the dashboards; None if it is not in this store."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        return f"#/experiments/{client(uri).get_run(run_id).info.experiment_id}/runs/{run_id}"
    except MlflowException:
        return None


def _metric(measure: str, part: str) -> str:
    return measure if part == "value" else f"{measure}/{part}"


def _filled(values: np.ndarray | None, count: int) -> list[float | None]:
    """Values of `count` pictures; None where there is none."""
    return [None] * count if values is None else [None if not np.isfinite(value) else float(value) for value in values]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Leaves of nested mappings with their paths, without those that are None."""
    leaves: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            leaves += _flat(value, f"{prefix}{key}.")
        elif value is not None:
            leaves.append((f"{prefix}{key}", str(value)))
    return leaves


def table_run(config: DictConfig, table: str) -> str:
    """The id of a table's parent run, which is made if there is none."""
    tracking = client(config.tracking_uri)
    experiment = _experiment(config.tracking_uri, f"{config.scale.name}: {table}")
    if known := tracking.search_runs([experiment], "tags.table = 'parent'"):
        return known[0].info.run_id
    run_id = tracking.create_run(experiment, run_name=table, tags={"table": "parent"}).info.run_id
    tracking.set_terminated(run_id)
    return run_id


def log_parent(config: DictConfig, table: str, text: str) -> None:
    """Puts a table, as Markdown, into its parent run."""
    tracking, parent = client(config.tracking_uri), table_run(config, table)
    tracking.log_text(parent, text, "table.md")


def log_image(run_id: str, image: np.ndarray, name: str, uri: str) -> None:
    """uint8 [H, W, 3] as an artifact."""
    from PIL import Image

    client(uri).log_image(run_id, Image.fromarray(image), name)
