"""Evaluation: pairing, resuming, and what lands in JSON and MLflow."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.evaluate import Pairs, partners
from src.files import UserError
from src.tracking import client


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


def test_a_run_is_evaluated_once(command, tmp_path: Path, trained: Path) -> None:
    store = tmp_path / "mlruns.db"
    shutil.copyfile(trained.parents[2] / "mlruns.db", store)
    arguments = (f"checkpoint={trained}", "gs=[1,3]", "sampler.steps=3", "scale.evaluation.images=8")
    result = command("src.evaluate", *arguments)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "evaluation/smoke/Shuffle-0 (1 epochs).json").read_text())
    column = report["distances"]["FD-EffNet"]
    assert set(column) == {"1", "3"} and all(cell["low"] <= cell["value"] <= cell["high"] for cell in column.values())
    with np.load(tmp_path / "evaluation/smoke/Shuffle-0 (1 epochs).npz") as images:
        assert images["gs3"].shape == (8, 64, 64, 3) and images["gs3"].dtype == np.uint8
    history = client(f"sqlite:///{store}").get_metric_history(report["mlflow_run"], "FD-EffNet/vp")
    assert {m.step: m.value for m in history} == pytest.approx({1: column["1"]["value"], 3: column["3"]["value"]})
    again = command("src.evaluate", *arguments)
    assert "is up to date" in again.stdout
    other = command("src.evaluate", *arguments[:1], "gs=[2,3]", *arguments[2:])
    assert "U-Net evaluations/s" in other.stdout
    changed = json.loads((tmp_path / "evaluation/smoke/Shuffle-0 (1 epochs).json").read_text())
    assert list(changed["distances"]["FD-EffNet"]) == list(changed["palette_closer"]) == ["2", "3"]
    assert changed["distances"]["FD-EffNet"]["3"] == column["3"]  # kept; the scale that was not there before is new
