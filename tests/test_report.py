"""Tables beside the paper's numbers, from results whose values are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from src.document import Table, markdown
from src.report import (
    NOTE,
    ablation_grid,
    baselines_grid,
    curves,
    draw_curves,
    edits_tables,
    finished_figure,
    guidance_grid,
    made_table,
    measure_tables,
    page,
    summary,
    table1,
    table2,
    table2_measures,
    write_table,
)


def result(name: str, offset: float, cells: tuple[str, ...] = ("1", "2")) -> dict:
    values = [1.0 if cell == "-" else float(cell.partition("/")[0]) for cell in cells]
    column = {cell: {"value": offset + gs, "low": offset, "high": offset + 2 * gs} for cell, gs in zip(cells, values, strict=True)}
    closer = {cell: {"value": 0.9, "low": 0.8, "high": 0.95} for cell in cells}
    return {
        "name": name,
        "images": 3,
        "noise_level": 0.5,
        "cells": {cell: {"gs": gs, "sgs": 1} for cell, gs in zip(cells, values, strict=True)},
        "validation": {"val_loss": 0.1, "val_loss_without_reference": 0.2},
        "measures": {"FD-EffNet": column, "separation": {cell: {"value": 0.1 * gs} for cell, gs in zip(cells, values, strict=True)},
                     "palette closer": closer},
        "images_by_cell": {cell: np.zeros((3, 8, 8, 3), np.uint8) for cell in cells},
        "made_from": {"checkpoint": "ab" * 32, "data": {"color": "cd" * 32}, "backbone": "123"},
        "runs": {"training": None, "evaluation": "#/experiments/1/runs/f00d"},
    }  # fmt: skip


RESULTS = {name: result(name, offset) for name, offset in (("Mine", 30.0), ("Shuffle-0", 20.0), ("Deform-0", 10.0))}

ANSWER = {
    "edits": 2,
    "closer": {"share": 0.9, "low": 0.8, "high": 0.95},
    "named": {"share": 0.5, "low": 0.4, "high": 0.6},
    "distance": 20.0,
    "direction": 0.31,
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
    text = markdown(write_table(records, tmp_path / "table1", "Table 1", NOTE.format(size=64, scale="demo", images=3, warning="")))
    assert "| Deform-0 | **11.00** [10.00, 12.00] | **12.00** [10.00, 14.00] |" in text
    assert "| Deform-0 | 15.86 | 10.89 |" in text and "another data set" in text
    assert (tmp_path / "table1.md").read_text().startswith("# Table 1\n")
    rows = list(csv.DictReader((tmp_path / "table1.csv").open()))
    assert len(rows) == 6 and float(rows[3]["ours"]) == 22 and rows[3]["distance"] == "FD-EffNet"
    assert json.loads((tmp_path / "table1.json").read_text())["cells"] == records


def test_table2_has_the_baselines_in_order_other_methods_and_what_was_not_run(tmp_path: Path) -> None:
    ours = {"Noisy-0 (7 epochs)": result("Noisy-0 (7 epochs)", 5.0)}
    names = ["Your method", "CN-Linear + SD v1.5 + IP-Adapter, GS-3", "CN-Anime + Anything v3, text, GS-9"]
    others = {name: result(name, 8.0, ("-",)) for name in names}
    records = table2(ours, others, [1, 2])
    assert len(records) == 2 + 7 + 1 and records[2]["model"] == names[2] and records[-1]["model"] == names[0]
    text = markdown(write_table(records, tmp_path / "table2", "Table 2", ""))
    assert text.count("not run here") == 5
    assert "| CN-Linear + SD v1.5 + IP-Adapter, GS-3 | 25.84 |" in text
    assert "| Your method | 9.00 [8.00, 10.00] |  |" in text
    beside = table2_measures(ours, others)
    table = next(block for block in beside if isinstance(block, Table))
    assert [row[0] for row in table.rows][:2] == ["Noisy-0 (7 epochs), GS-1", "Noisy-0 (7 epochs), GS-2"]
    pairs = type("P", (), {"sketches": np.full((3, 8, 8), 255, np.uint8), "references": np.zeros((3, 8, 8, 3), np.uint8)})
    whole, ours_alone = baselines_grid(ours, others, pairs, "2", 2), baselines_grid(ours, {}, pairs, "2", 2)
    assert whole.shape[1] - ours_alone.shape[1] == 3 * (2 * 8 + 4)


def test_figures_and_summary(tmp_path: Path) -> None:
    pairs = type("P", (), {"sketches": np.full((3, 8, 8), 255, np.uint8), "references": np.zeros((3, 8, 8, 3), np.uint8)})
    assert ablation_grid(RESULTS, pairs, "2", 2).dtype == np.uint8
    assert guidance_grid(RESULTS["Mine"], pairs, 3).dtype == np.uint8
    metrics = summary(RESULTS, {"Noisy-0.1 (12 epochs)": RESULTS["Mine"]})
    assert metrics["Deform-0"] == {"FD-EffNet": 11.0, "FD-EffNet at GS": 1, "separation": 0.2, "separation at GS": 2}
    assert list(metrics)[-1] == "Noisy-0.1 (12 epochs)"
    assert finished_figure("Noisy-0.1 (12 epochs)") == "finished_Noisy-0.1.png"
    rows = list(csv.DictReader(curves(RESULTS, [1, 2]).splitlines()))
    assert rows[0]["model"] == "Deform-0" and float(rows[0]["distance"]) == float(rows[0]["FD-EffNet"]) == 11
    plots = draw_curves(RESULTS, [1, 2], tmp_path / "figures")
    assert [plot.path for plot in plots] == ["figures/curves/fd-effnet.svg", "figures/curves/separation.svg"]
    sgs = {"Noisy-0": result("Noisy-0", 1.0, ("1", "2", "2/3"))}
    assert draw_curves(sgs, [1, 2], tmp_path / "other")[-1].path == "figures/curves/separation-sgs-at-2.svg"
    first = (tmp_path / plots[0].path).read_bytes()
    assert b"Deform-0" in first and draw_curves(RESULTS, [1, 2], tmp_path / "figures") == plots
    assert (tmp_path / plots[0].path).read_bytes() == first


def test_the_page_leads_every_number_to_what_made_it() -> None:
    results = RESULTS | {"Noisy-0": result("Noisy-0", 1.0, ("1", "2", "2/3"))}
    measures = measure_tables(results, [1, 2])
    made = made_table({"Table 1": results}, "http://127.0.0.1:5000")
    assert made.rows[0][2:5] == ["`abababababab`", "", "[f00d](http://127.0.0.1:5000/#/experiments/1/runs/f00d)"]
    for table in (block for block in measures if isinstance(block, Table)):
        assert set(table.anchors) <= set(made.names) and len(table.anchors) == len(table.rows)
    titles = [block.text for block in measures if not isinstance(block, Table)]
    assert "Separation (structure x colour), along SGS" in titles
    text = markdown(page("demo", "2", [], [], measures, [], [], {"noisy": RESULTS["Mine"]}, results, [EDITS], made))
    assert "90.0 % [80.0, 95.0]" in text and "(figures/edits_series_cls.png)" in text and "edits_sequence.png" not in text


def test_table_of_edits() -> None:
    table = markdown(edits_tables([EDITS]))
    assert "| CLS-0 | no edit |  |  | 60.0 |  |  |  |  |" in table
    assert "| CLS-0 | 15 | 90.0 % [80.0, 95.0] | 50.0 % [40.0, 60.0] | 20.0 | 0.31 | 40.0 | 10.0 (25 %) | - |" in table
    assert "- CLS-0: 80.0 % [70.0, 90.0]" in table and "| CLS-0 | 90 % / 50 % |" in table


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_the_papers_tables_are_whole(name: str) -> None:
    from src.report import PAPER

    assert len(PAPER["table1"]["rows"]) == 9 and len(PAPER["table2"]["baselines"]) == 7 and PAPER[name]["columns"][0] == "GS-1"
