"""The training entry point, run as a user runs it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from src.backbone.parts import load_card
from tests.conftest import ROOT


def test_a_sweep_trains_every_combination_and_repeats_none(command, tmp_path: Path) -> None:
    arguments = ("-m", "model=shuffle,deform", "drop=0,0.8", "epochs=1")
    result = command("src.train", *arguments)
    assert result.returncode == 0, result.stderr
    names = {p.parent.name for p in (tmp_path / "runs/smoke").glob("*/model.safetensors")}
    assert names == {f"{base}-{drop} (1 epochs)" for base in ("Shuffle", "Deform") for drop in ("0", "0.8")}
    card = load_card(tmp_path / "runs/smoke/Shuffle-0.8 (1 epochs)/model")
    assert card["scheme"]["drop_rate"] == 0.8 and card["steps"] == 2
    assert not list(tmp_path.rglob("*.ckpt"))
    again = command("src.train", *arguments)
    assert again.returncode == 0 and again.stdout.count("trained already") == 4
    other = command("src.train", "epochs=1", "scale.batch=4")
    assert other.returncode == 1 and "holds a run with other settings" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize("scheme", ["model=cls", "model=deform noisy=true dual=4 drop=0.5"])
def test_schemes_combine_and_are_tracked(command, tmp_path: Path, scheme: str) -> None:
    result = command("src.train", "epochs=1", *scheme.split())
    assert result.returncode == 0, result.stderr
    from src.tracking import client

    (folder,) = (p.parent for p in (tmp_path / "runs/smoke").glob("*/model.json"))
    card = load_card(folder / "model")
    tracking = client(f"sqlite:///{tmp_path}/mlruns.db")
    run = tracking.get_run(card["mlflow_run"])
    assert run.info.run_name == card["name"] == folder.name and run.info.status == "FINISHED"
    assert "val/loss" in run.data.metrics and run.data.params["model/kind"] == card["kind"]
    assert [a.path for a in tracking.list_artifacts(card["mlflow_run"])] == ["samples.png"]


def test_killed_and_resumed_equals_uninterrupted(command, tmp_path: Path, backbone_directory: Path, data_root: Path) -> None:
    arguments = ["noisy=true", "drop=0.5", "epochs=6", "scale.samples_per_epoch=24"]
    whole = tmp_path / "whole"
    whole.mkdir()
    assert command("src.train", *arguments, cwd=whole).returncode == 0
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLORIZE_BACKBONE": str(backbone_directory)}
    process = subprocess.Popen(
        [sys.executable, "-m", "src.train", "scale=smoke", *arguments, f"data.root={data_root}"],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = tmp_path / "runs/smoke/Noisy-0.5 (6 epochs)"
    deadline = time.monotonic() + 120
    while not (folder / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "last.ckpt").exists() and not (folder / "model.safetensors").exists()
    assert command("src.train", *arguments).returncode == 0
    one, two = (load_file(base / "runs/smoke" / folder.name / "model.safetensors") for base in (tmp_path, whole))
    assert all((one[key] == two[key]).all() for key in two) and one.keys() == two.keys()
    assert load_card(folder / "model")["steps"] == 18
    from src.tracking import client

    tracking = client(f"sqlite:///{tmp_path}/mlruns.db")
    assert len(tracking.search_runs([tracking.get_experiment_by_name("smoke").experiment_id])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=shuffel"], "Could not find 'model/shuffel'"),
        (["data.root=/no/such/folder"], "/no/such/folder/train/latent is no column"),
        (["backbone.directory=/no/such/backbone"], "There is no /no/such/backbone/vae.json"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_1(command, arguments: list[str], message: str) -> None:
    result = command("src.train", *arguments, places=False)
    assert result.returncode == 1
    assert message in result.stderr and "Traceback" not in result.stderr


def test_a_broken_shard_is_named(command, tmp_path: Path, data_root: Path) -> None:
    import shutil

    shutil.copytree(data_root, tmp_path / "data")
    shard = tmp_path / "data/train/latent/00000.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    result = command("src.train", f"data.root={tmp_path}/data", places=False)
    assert result.returncode == 1 and f"Shard {shard}" in result.stderr and "Traceback" not in result.stderr


def test_help_is_quick_to_import() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import src.train, sys; sys.exit(any(m in sys.modules for m in ('torch', 'lightning', 'mlflow')))"],
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0
