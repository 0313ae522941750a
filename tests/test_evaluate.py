"""Evaluation: pairing, resuming, and what lands in JSON and MLflow."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.files import UserError
from src.held_out import Pairs, partners, read_arrays
from src.tracking import client
from tests.conftest import ROOT


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=20))
def test_no_drawing_is_its_own_reference(drawings: list[str]) -> None:
    try:
        order = partners(drawings)
    except UserError:
        return
    assert sorted(order.tolist()) == list(range(len(drawings)))
    assert all(drawings[i] != drawings[j] for i, j in enumerate(order.tolist()))


def test_pairs_are_held_out_and_repeatable(data_root: Path) -> None:
    one, two = (Pairs(data_root / "val", 8, seed=1) for _ in range(2))
    assert one.keys == two.keys and one.seeds == two.seeds and np.array_equal(one.references, two.references)
    assert one.sketches.shape == (8, 64, 64) and one.tokens.shape == (8, 65, 128)
    assert not any(np.array_equal(a, b) for a, b in zip(one.truths, one.references, strict=True))
    with pytest.raises(UserError, match="rows, 900 were asked for"):
        Pairs(data_root / "val", 900, seed=1)


def test_the_second_references_are_others_and_no_two_sketches_show_one_drawing(data_root: Path) -> None:
    pairs = Pairs(data_root / "val", 24, seed=0)
    other = pairs.with_other_references()
    for pair in (pairs, other):
        assert not any(np.array_equal(a, b) for a, b in zip(pair.truths, pair.references, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(pairs.references, other.references, strict=True))
    few = pairs.of_different_drawings(8)
    assert len(set(few.drawings)) == len(few) == 8 and few.keys == other.of_different_drawings(8).keys
    permuted = few.with_permuted_tokens()
    assert np.array_equal(permuted.tokens[:, 0], few.tokens[:, 0]) and not np.array_equal(permuted.tokens, few.tokens)
    assert np.array_equal(np.sort(permuted.tokens, axis=1), np.sort(few.tokens, axis=1))
    own = Pairs(data_root / "val", 4, seed=0, own=True)
    assert np.array_equal(own.references, own.truths)


EVALUATION = ("sampler.steps=3", "scale.evaluation.images=8")


def test_a_run_is_evaluated_once(command, tmp_path: Path, trained: Path) -> None:
    store, name = tmp_path / "mlruns.db", "Shuffle-0 (1 epochs)"
    shutil.copyfile(trained.parents[2] / "mlruns.db", store)
    arguments = (f"checkpoint={trained}", "gs=[1,3]", "sgs=[2]", "sgs_at=3", *EVALUATION)
    result = command("src.evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    path = tmp_path / f"evaluation/smoke/{name}.json"
    report = json.loads(path.read_text())
    column = report["measures"]["FD-EffNet"]
    assert set(column) == {"1", "3", "3/2"} and all(cell["low"] <= cell["value"] <= cell["high"] for cell in column.values())
    assert report["measures"]["entanglement permuted"]["3"]["value"] < 0.01  # attention has no positions
    assert set(report["measures"]["entanglement"]) == {"1", "3"} and "PSNR" not in report["measures"]
    with np.load(path.with_suffix(".npz")) as arrays:
        assert arrays["images 3/2"].shape == (8, 64, 64, 3) and arrays["images 3"].dtype == np.uint8
        assert np.nanmean(arrays["samples 1 leakage"]) == pytest.approx(report["measures"]["leakage"]["1"]["value"])
    _is_in_mlflow(client(f"sqlite:///{store}"), report, name)
    again = command("src.evaluate", *arguments)
    assert "is up to date" in again.stdout
    anew = command("src.evaluate", *arguments, "scale.evaluation.entangled=0")
    assert f"{name}: 0 s of sampling" in anew.stdout  # what is measured changed, and no picture
    other = command("src.evaluate", *arguments[:1], "gs=[2,3]", "sgs=[]", *EVALUATION)
    assert "U-Net evaluations/s" in other.stdout
    changed = json.loads(path.read_text())
    assert list(changed["measures"]["FD-EffNet"]) == list(changed["measures"]["palette closer"]) == ["2", "3"]
    assert changed["measures"]["FD-EffNet"]["3"] == column["3"]  # kept; the scale that was not there before is new
    runs = client(f"sqlite:///{store}").search_runs([_experiment_of(store, changed)])
    assert sorted(run.info.run_name for run in runs) == [name, "models"]  # the row has taken its predecessor's place


def _run_of(report: dict) -> str:
    return report["runs"]["evaluation"].rpartition("/")[2]


def _experiment_of(store: Path, report: dict) -> str:
    return client(f"sqlite:///{store}").get_run(_run_of(report)).info.experiment_id


def _is_in_mlflow(tracking, report: dict, name: str) -> None:
    run = tracking.get_run(_run_of(report))
    assert report["runs"]["training"].endswith(report["made_from"]["training_run"])
    history = tracking.get_metric_history(run.info.run_id, "FD-EffNet")
    column = report["measures"]["FD-EffNet"]
    assert {m.step: m.value for m in history} == pytest.approx({1: column["1"]["value"], 3: column["3"]["value"]})
    assert run.data.metrics["FD-EffNet/SGS at GS-3"] == pytest.approx(column["3/2"]["value"])
    assert run.info.run_name == name and tracking.get_run(run.data.tags["mlflow.parentRunId"]).data.tags["table"] == "parent"
    assert run.data.tags["checkpoint"] == report["made_from"]["checkpoint"] and len(run.data.tags["data.color"]) == 64
    assert {file.path for file in tracking.list_artifacts(run.info.run_id)} == {"evaluation.json", "grid.png", "samples.json"}


def test_any_methods_pictures_get_the_same_numbers(command, tmp_path: Path, data_root: Path) -> None:
    result = command("src.evaluate", "export=pairs", *EVALUATION)
    assert result.returncode == 0, result.stderr
    keys = sorted(path.stem for path in (tmp_path / "pairs/truth").iterdir())
    assert len(keys) == 8 and len((tmp_path / "pairs/pairs.csv").read_text().splitlines()) == 9
    result = command("src.evaluate", "results=pairs/truth", "name=Anna's method (v1)", *EVALUATION)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "evaluation/smoke/Anna's method (v1).json").read_text())
    perfect = {measure: column["-"]["value"] for measure, column in report["measures"].items()}
    assert perfect["vanished"] < 0.1 and perfect["leakage"] < 0.2 and perfect["structure"] > 0.8
    again = command("src.evaluate", "results=pairs/truth", "name=Anna's method (v1)", *EVALUATION)
    assert again.returncode == 0, again.stderr
    (tmp_path / "pairs/truth" / f"{keys[0]}.png").unlink()
    elsewhere = command("src.evaluate", "results=pairs/truth", "name=../other", *EVALUATION)
    assert "is none that a file can have" in elsewhere.stderr and not (tmp_path / "evaluation/other.json").exists()
    for argument, message in (
        ("results=pairs/truth", f"has no picture {keys[0]}"),
        ("results=nowhere", "There is no folder nowhere"),
        ("export=pairs", "pairs is not empty"),
        ("seed=0", "Give one of checkpoint="),
    ):
        refused = command("src.evaluate", argument, *EVALUATION)
        assert refused.returncode == 1 and message in refused.stderr


def test_references_of_their_own_are_compared_one_by_one(command, tmp_path: Path) -> None:
    command("src.evaluate", "export=pairs", *EVALUATION)
    result = command("src.evaluate", "results=pairs/truth", "name=truth", "own_references=true", *EVALUATION)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "evaluation/smoke/truth.json").read_text())
    assert (
        report["measures"]["MS-SSIM"]["-"]["value"] == 1
        and report["measures"]["PSNR"]["-"]["value"] == 100
        and report["measures"]["PD-EffNet"]["-"]["value"] == 0
    )


def test_a_baseline_is_a_row_as_ours_are(command, tmp_path: Path) -> None:
    weights = f"weights.directory={ROOT / 'backbone/demo/baselines'}"
    arguments = ("baseline=ip_adapter", weights, "table=table2", *EVALUATION)
    result = command("src.evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    name = "CN-Anime + Anything v3 + IP-Adapter, GS-3"
    report = json.loads((tmp_path / f"evaluation/smoke/{name}.json").read_text())
    assert list(report["cells"]) == ["-"] and set(report["made_from"]["weights"]) == {"base", "controls", "ip_adapters"}
    assert {"FD-EffNet", "structure", "leakage", "colour", "entanglement"} <= set(report["measures"])
    images = read_arrays(tmp_path / f"evaluation/smoke/{name}.npz")[0]["-"]
    assert images.shape == (8, 64, 64, 3) and images.dtype == np.uint8 and not np.array_equal(images[0], images[1])
    assert "is up to date" in command("src.evaluate", *arguments).stdout
    other = command("src.evaluate", *arguments, "baseline.gs=5")
    assert "U-Net evaluations/s" in other.stdout  # another setting is another result
    assert "has no sdxl among its bases" in command("src.evaluate", "baseline=ip_adapter_sdxl", weights, *EVALUATION).stderr
