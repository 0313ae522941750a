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
    (tmp_path / "runs/smoke/Shuffle-0 (1 epochs)/identity").write_text("of another data set")
    other = command("src.train", "epochs=1")
    assert other.returncode == 1 and "holds a run with other settings" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_sweep_skips_what_makes_no_model(command, tmp_path: Path) -> None:
    for _ in range(2):
        sweep = command("src.train", "-m", "model=cls", "noisy=false,true", "epochs=1")
        assert sweep.returncode == 0, sweep.stderr
        assert sweep.stdout.count("skipped: ") == 1 and "CLS models have none" in sweep.stdout
    assert len(list(tmp_path.glob("runs/smoke/*/model.safetensors"))) == 1
    from src.tracking import client

    tracking = client(f"sqlite:///{tmp_path}/mlruns.db")
    experiment = tracking.get_experiment_by_name("smoke").experiment_id
    (skipped,) = tracking.search_runs([experiment], "tags.skipped != ''")
    assert skipped.info.run_name == "CLS-Noisy-0 (1 epochs)"
    alone = command("src.train", "model=cls", "noisy=true", "epochs=1")
    assert alone.returncode == 2 and "CLS models have none" in alone.stderr and "Traceback" not in alone.stderr


def test_a_sweep_runs_on_a_local_ray_cluster(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default Ray's workers give way to whatever else runs here
    result = command("src.train", "-m", "launcher=ray", "model=shuffle,deform", "epochs=1")
    assert result.returncode == 0, result.stdout + result.stderr
    names = {p.parent.name for p in (tmp_path / "runs/smoke").glob("*/model.safetensors")}
    assert names == {"Shuffle-0 (1 epochs)", "Deform-0 (1 epochs)"}


@pytest.mark.parametrize("scheme", ["model=cls scale.log_every=1", "model=deform noisy=true dual=4 drop=0.5 scale.log_every=1"])
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
    assert {"train/loss_q1", "train/gradient_norm", "images_per_second"} <= run.data.metrics.keys()
    assert len(run.data.tags["data.sketch"]) == 64 and run.data.tags["git"]
    assert {a.path for a in tracking.list_artifacts(card["mlflow_run"])} == {"config.yaml", "samples.png"}


def test_two_processes_on_live_features_keep_an_epoch(command, tmp_path: Path) -> None:
    # Of a CLS model every trained weight has to have a gradient in every process.
    options = ["trainer.features=live", "model=cls", "scale.batch=2", "scale.accumulate=2", "scale.loss.prediction=v"]
    result = command("src.train", "trainer.devices=2", "epochs=2", "keep_epochs=[1]", *options)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "runs/smoke/CLS-0 (2 epochs) (scale.accumulate 2, scale.batch 2, scale.loss.prediction v)"
    card = load_card(folder / "model")
    assert card["steps"] == 4 and card["samples"] == 32  # 2 epochs of 16 samples, 2 x 2 x 2 an update
    first, last = load_file(folder / "epoch-1/model.safetensors"), load_file(folder / "model.safetensors")
    assert first.keys() == last.keys() and any((first[key] != last[key]).any() for key in first)
    more = command("src.train", "trainer.devices=2", "epochs=2", "keep_epochs=[2]", *options)
    assert more.returncode == 1 and "did not keep the weights of epoch 2" in more.stderr
    alone = command("src.train", "epochs=2", *options)
    assert alone.returncode == 1 and "other settings" in alone.stderr  # half as many samples an update


def test_stopped_killed_and_resumed_equals_uninterrupted(
    command, tmp_path: Path, backbone_directory: Path, data_root: Path
) -> None:
    arguments = ["noisy=true", "drop=0.5", "epochs=8", "scale.samples_per_epoch=24", "scale.ema.widths=[0.1]"]
    arguments += ["scale.batch=4", "scale.accumulate=2", "scale.checkpoint_every=2"]
    whole = tmp_path / "whole"
    whole.mkdir()
    assert command("src.train", *arguments, cwd=whole).returncode == 0
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLORIZE_BACKBONE": str(backbone_directory)}
    folder = (
        tmp_path
        / "runs/smoke/Noisy-0.5 (8 epochs) (scale.accumulate 2, scale.batch 4, scale.ema.widths [0.1], scale.samples_per_epoch 24)"
    )
    last = folder / "last.ckpt"

    def interrupted(by: int) -> tuple[int, str]:
        """Starts the run, sends the signal as soon as it has written a checkpoint, and gives its exit code and messages."""
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = subprocess.Popen(
            [sys.executable, "-m", "src.train", "scale=smoke", *arguments, f"data.root={data_root}"],
            cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if last.exists() and last.stat().st_mtime_ns > before:
                process.send_signal(by)
                break
            time.sleep(0.02)
        _, messages = process.communicate(timeout=120)
        assert last.exists() and not (folder / "model.safetensors").exists()
        return process.returncode, messages

    assert interrupted(signal.SIGKILL)[0] == -signal.SIGKILL
    code, messages = interrupted(signal.SIGTERM)
    assert code == 1 and "the same command continues" in messages and "Traceback" not in messages
    assert command("src.train", *arguments).returncode == 0
    one, two = (load_file(base / "runs/smoke" / folder.name / "model.safetensors") for base in (tmp_path, whole))
    assert all((one[key] == two[key]).all() for key in two) and one.keys() == two.keys()
    assert load_card(folder / "model")["steps"] == 24
    averaged = command("src.average", f"run={folder}", "width=0.1", places=False)
    assert averaged.returncode == 0, averaged.stderr
    average = load_file(folder / "average-0.1/model.safetensors")
    assert all((average[key] == one[key]).all() for key in one)  # the tracked width's average is what the run ends with
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


def test_importing_the_entry_point_loads_nothing_heavy() -> None:
    heavy = {"torch", "torchvision", "lightning", "diffusers", "mlflow", "open_clip", "numpy"}
    code = f"import src.train, sys; print(*{heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_help_lists_the_groups_and_every_value(command) -> None:
    result = command("src.train", "--help", places=False)
    assert result.returncode == 0, result.stderr
    assert "model: cls, deform, shuffle" in result.stdout and "Example: python -m src.train -m" in result.stdout
    assert "\ndrop: 0\n" in result.stdout and "hydra:" not in result.stdout
