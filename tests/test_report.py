"""Tables beside the paper's numbers, from results whose values are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from src.report import (
    NOTE,
    ablation_grid,
    curves,
    edits_tables,
    finished_figure,
    guidance_grid,
    page,
    summary,
    table1,
    table2,
    write_table,
)


def result(name: str, offset: float) -> dict:
    column = {f"{gs}": {"value": offset + gs, "low": offset, "high": offset + 2 * gs} for gs in (1, 2)}
    shares = {f"{gs}": {"share": 0.9, "low": 0.8, "high": 0.95} for gs in (1, 2)}
    images = {f"{gs}": np.zeros((3, 8, 8, 3), np.uint8) for gs in (1, 2)}
    return {
        "name": name,
        "images": 3,
        "noise_level": 0.5,
        "validation": {"val_loss": 0.1, "val_loss_without_reference": 0.2},
        "distances": {"FD-EffNet": column},
        "palette_closer": shares,
        "images_by_gs": images,
    }


RESULTS = {name: result(name, offset) for name, offset in (("Mine", 30.0), ("Shuffle-0", 20.0), ("Deform-0", 10.0))}

ANSWER = {
    "edits": 2,
    "closer": {"share": 0.9, "low": 0.8, "high": 0.95},
    "named": {"share": 0.5, "low": 0.4, "high": 0.6},
    "distance": 20.0,
    "region": {"mean": 40.0, "relative": 1.0},
    "others": {"mean": 10.0, "relative": 0.25},
    "background": {"mean": None, "relative": None},
}
EDITS = {
    "name": "CLS-0",
    "kind": "cls",
    "drawings": 2,
    "edits": ["red to blue", "grey hair to blue hair"],
    "target_scales": [15],
    "sequences": 6,
    "distance_before": 60.0,
    "responses": {"15": ANSWER},
    "by_colour": {"blue": ANSWER},
    "monotone": {"share": 0.8, "low": 0.7, "high": 0.9},
}


def test_table1_has_every_cell_and_the_papers_numbers(tmp_path: Path) -> None:
    records = table1(RESULTS, [1, 2])
    assert [r["model"] for r in records[::2]] == ["Deform-0", "Shuffle-0", "Mine"]
    assert records[0]["paper_fid"] == 15.8590 and records[-1]["paper_fid"] is None
    markdown = write_table(records, tmp_path / "table1", "Table 1", NOTE.format(size=64, scale="demo", images=3))
    assert "| Deform-0 | **11.00** [10.00, 12.00] | **12.00** [10.00, 14.00] |" in markdown
    assert "| Deform-0 | 15.86 | 10.89 |" in markdown and "another data set" in markdown
    rows = list(csv.DictReader((tmp_path / "table1.csv").open()))
    assert len(rows) == 6 and float(rows[3]["ours"]) == 22 and rows[3]["distance"] == "FD-EffNet"
    assert json.loads((tmp_path / "table1.json").read_text())["cells"] == records


def test_table2_lists_the_baselines_as_not_run(tmp_path: Path) -> None:
    records = table2({"Noisy-0 (7 epochs)": result("Noisy-0 (7 epochs)", 5.0)}, [1, 2])
    markdown = write_table(records, tmp_path / "table2", "Table 2", "")
    assert markdown.count("not run yet") == 2 * 7
    assert "| CN-Linear + SD v1.5 + IP-Adapter, GS-3 | 25.84 |" in markdown


def test_figures_and_summary() -> None:
    pairs = type("P", (), {"sketches": np.full((3, 8, 8), 255, np.uint8), "references": np.zeros((3, 8, 8, 3), np.uint8)})
    assert ablation_grid(RESULTS, pairs, "2", 2).shape[1] == 4 + 4 * (16 + 4)
    assert guidance_grid(RESULTS["Mine"], pairs, 3).dtype == np.uint8
    records = table1(RESULTS, [1, 2])
    metrics = summary(records, {"Noisy-0.1 (12 epochs)": RESULTS["Mine"]})
    assert metrics["Deform-0"] == {"FD-EffNet": 11.0, "at GS": 1}
    assert metrics["Noisy-0.1 (12 epochs)"] == {
        "FD-EffNet": 31.0, "at GS": 1, "palette closer, GS-1": 0.9, "palette closer, GS-2": 0.9,
    }  # fmt: skip
    assert finished_figure("Noisy-0.1 (12 epochs)") == "finished_Noisy-0.1.png"
    assert curves(records).splitlines()[1] == "Deform-0,1,11.0"
    text = page("demo", "2", "# a", "# b", {"noisy": RESULTS["Mine"]}, RESULTS, [EDITS])
    assert "90.0 % [80.0, 95.0]" in text and "(figures/edits_series_cls.png)" in text and "edits_sequence.png" not in text


def test_table_of_edits() -> None:
    table = edits_tables([EDITS])
    assert "| CLS-0 | no edit |  |  | 60.0 |  |  |  |" in table
    assert "| CLS-0 | 15 | 90.0 % [80.0, 95.0] | 50.0 % [40.0, 60.0] | 20.0 | 40.0 | 10.0 (25 %) | - |" in table
    assert "- CLS-0: 80.0 % [70.0, 90.0]" in table and "| CLS-0 | 90 % / 50 % |" in table


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_the_papers_tables_are_whole(name: str) -> None:
    from src.report import PAPER

    assert len(PAPER["table1"]["rows"]) == 9 and len(PAPER["table2"]["baselines"]) == 7 and PAPER[name]["columns"][0] == "GS-1"
