"""Tables 1 and 2, what else was measured, their figures, and the page about them. Ours stand beside the paper's numbers."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.document import Block, Figure, Heading, Table, Text, anchor, markdown
from src.edits_page import edits_figures, edits_tables
from src.files import write_atomically, write_json
from src.grids import rows_image
from src.held_out import read_arrays
from src.measure import MEASURES, Measure, cell_title, shown
from src.methods import OUTSIDE

Results = Mapping[str, Mapping[str, Any]]  # evaluation reports by the name of the model

PAPER = json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))
NOTE = (
    "Ours are another data set (OpenMoji, {size} px), another scale ({scale}) and, unless the table says FID, other features "
    "than the paper's: compare rows with rows, never a number of ours with one of the paper's. "
    "Brackets hold the 95 % bootstrap interval over {images} results a cell. {warning}"
)
DISTANCES = ("FID", "FD-EffNet", "FD-CLIP")
# Shown against GS, one line a model.
CURVES = (
    "FID", "FD-EffNet", "FD-CLIP", "KD-EffNet", "separation", "structure", "colour", "spurious", "vanished", "leakage",
    "entanglement", "density", "coverage",
)  # fmt: skip


def load_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Evaluation reports by name, with their pictures by cell in `images_by_cell` and values of each picture in `samples`."""
    reports = {}
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        report["images_by_cell"], report["samples"] = read_arrays(path.with_suffix(".npz"))
        reports[report["name"]] = report
    return reports


def in_order(results: Results) -> dict[str, Mapping[str, Any]]:
    """The paper's rows first, in its order."""
    known = [name for name in PAPER["table1"]["rows"] if name in results]
    return {name: results[name] for name in [*known, *(name for name in results if name not in known)]}


def table1(results: Results, guidance: Sequence[float]) -> list[dict[str, Any]]:
    """One record a model and guidance scale: the paper's FID and our distances with intervals."""
    paper = PAPER["table1"]
    return [
        _record(name, report, f"{gs:g}", gs, _paper_value(paper["rows"].get(name), paper["columns"], gs))
        for name, report in in_order(results).items()
        for gs in guidance
    ]


def table2(results: Results, others: Results, guidance: Sequence[float]) -> list[dict[str, Any]]:
    """Our rows at every guidance scale, the paper's baselines in its order, also those that were not run, then other methods."""
    paper = PAPER["table2"]
    records = [
        _record(name, report, f"{gs:g}", gs, _paper_value(paper["ours"].get(name), paper["columns"], gs))
        for name, report in results.items()
        for gs in guidance
    ]
    for name in [*paper["baselines"], *(name for name in others if name not in paper["baselines"])]:
        value = paper["baselines"].get(name)
        ran = name in others
        records.append(
            _record(name, others[name], OUTSIDE, None, value)
            if ran
            else {"model": name, "gs": None, "paper_fid": value, "ours": None}
        )
    return records


# What Table 2 says beside the distances: fidelity to the sketch, leakage, and how much of the reference's colours there is.
BESIDE = ("separation", "structure", "spurious", "vanished", "leakage", "entanglement", "colour", "CLIP nearness", "palette closer")


def table2_measures(results: Results, others: Results) -> list[Block]:
    """The other measures of Table 2, a row a method (ours: a row a GS), a column a measure."""
    rows: list[list[str]] = []
    anchors: list[str | None] = []
    for name, report in {**results, **others}.items():
        for cell in report["cells"]:
            title = name if cell == OUTSIDE else f"{name}, {cell_title(cell)}"
            columns = [report["measures"].get(measure, {}).get(cell) for measure in BESIDE]
            rows.append([title, *(shown(measure, c) if c else "" for measure, c in zip(BESIDE, columns, strict=True))])
            anchors.append(row_anchor("Table 2", name))
    head = ["Method", *(f"{MEASURES[m].title} ({MEASURES[m].better or 'neither'} is better)" for m in BESIDE)]
    text = "Text-guided rows see no reference: colour and palette say there how near a caption comes to it by chance."
    return [Heading(3, "Sketch fidelity, leakage and colour transfer (Table 2)"), Text(text), Table(head, rows, anchors)]


def baselines_grid(results: Results, others: Results, pairs: Any, gs: str, rows: int) -> np.ndarray:
    """Figure 15's layout: sketch, reference, the baselines in the paper's order, then ours at one guidance scale."""
    names = [name for name in PAPER["table2"]["baselines"] if name in others]
    names += [name for name in others if name not in names]
    columns = [pairs.sketches[:rows], pairs.references[:rows], *(others[n]["images_by_cell"][OUTSIDE][:rows] for n in names)]
    ours = [name for name, report in results.items() if gs in report["images_by_cell"]]
    columns += [results[name]["images_by_cell"][gs][:rows] for name in ours]
    return rows_image(columns, ["sketch", "reference", *names, *(f"Ours: {name}, {cell_title(gs)}" for name in ours)])


def _paper_value(row: Sequence[float] | None, columns: Sequence[str], gs: float) -> float | None:
    return row[columns.index(f"GS-{gs:g}")] if row and f"GS-{gs:g}" in columns else None


def _record(name: str, report: Mapping[str, Any], cell: str, gs: float | None, paper: float | None) -> dict[str, Any]:
    measured = report["measures"]
    ours = {distance: measured[distance].get(cell) for distance in DISTANCES if distance in measured}
    return {"model": name, "gs": gs, "paper_fid": paper, "ours": ours}


def write_table(records: Sequence[dict[str, Any]], stem: Path, title: str, note: str) -> list[Block]:
    """`<stem>.json`, `.csv` and `.md`; returns the blocks of a page, whose headings begin at level 2."""
    write_json(stem.with_suffix(".json"), {"title": title, "note": note, "cells": records})
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["model", "gs", "paper_fid", "distance", "ours", "low", "high"])
    for r in records:
        for distance, measured in (r["ours"] or {"": None}).items():
            cell = measured or {}
            rows.writerow([r["model"], r["gs"], r["paper_fid"], distance, cell.get("value"), cell.get("low"), cell.get("high")])
    write_text(stem.with_suffix(".csv"), buffer.getvalue())
    blocks = _table_blocks(records, title, note)
    raised = [Heading(block.level - 1, block.text) if isinstance(block, Heading) else block for block in blocks]
    write_text(stem.with_suffix(".md"), markdown(raised))
    return blocks


def write_text(path: Path, text: str) -> None:
    """UTF-8, whole or not at all."""
    write_atomically(path, lambda f: f.write(text.encode()))


def _table_blocks(records: Sequence[dict[str, Any]], title: str, note: str) -> list[Block]:
    scales = sorted({r["gs"] for r in records if r["gs"] is not None})
    cells = {(r["model"], r["gs"]): r for r in records}
    models = list(dict.fromkeys(r["model"] for r in records))
    head = ["Model", *(f"GS-{gs:g}" for gs in scales)]
    blocks: list[Block] = [Heading(2, title), Text(note)]
    for distance in [d for d in DISTANCES if any(d in (r["ours"] or {}) for r in records)]:
        rows = []
        for model in models:
            if (model, None) in cells:
                ours = cells[model, None]["ours"]
                there = shown(distance, ours[distance]) if ours and ours.get(distance) else ""
                given = [there, *[""] * (len(scales) - 1)] if ours else ["not run here", *[""] * (len(scales) - 1)]
                rows.append([model, *given])
            else:
                row = {gs: cells[model, gs]["ours"].get(distance) for gs in scales}
                rows.append([model, *(_marked(distance, cell, records, gs) if cell else "" for gs, cell in row.items())])
        table = title.partition(" at ")[0]
        anchors = [None if (m, None) in cells and not cells[m, None]["ours"] else row_anchor(table, m) for m in models]
        blocks += [Heading(3, f"Ours, {distance}"), Table(head, rows, anchors)]
    rows = []
    for model in models:
        if (model, None) in cells:
            value = cells[model, None]["paper_fid"]
            rows.append([model, "" if value is None else f"{value:.2f}", *[""] * (len(scales) - 1)])
        else:
            values = [cells[model, gs]["paper_fid"] for gs in scales]
            rows.append([model, *("" if v is None else f"{v:.2f}" for v in values)])
    return [*blocks, Heading(3, f"The paper's, FID ({title.partition(' at ')[0]})"), Table(head, rows)]


def _marked(distance: str, cell: Mapping[str, Any], records: Sequence[dict[str, Any]], gs: float) -> str:
    """The number, bold where it is the column's best."""
    best = min(r["ours"][distance]["value"] for r in records if r["gs"] == gs and (r["ours"] or {}).get(distance))
    text = shown(distance, cell)
    value, space, rest = text.partition(" ")
    return f"**{value}**{space}{rest}" if cell["value"] == best else text


def row_anchor(table: str, model: str) -> str:
    """Where a page says what made a model's numbers in a table."""
    return f"made-{anchor(table)}-{anchor(model)}"


def measure_tables(results: Results, guidance: Sequence[float]) -> list[Block]:
    """What is measured beside the distances: a table a measure, a row a model, a column a GS, and those along SGS."""
    blocks: list[Block] = []
    ordered = in_order(results)
    along_sgs = list(dict.fromkeys(cell for report in ordered.values() for cell in report["cells"] if "/" in cell))
    for name, measure in MEASURES.items():
        rows = {model: report["measures"][name] for model, report in ordered.items() if name in report["measures"]}
        if name in DISTANCES or not rows:
            continue
        for cells, heading in (([f"{gs:g}" for gs in guidance], measure.title), (along_sgs, f"{measure.title}, along SGS")):
            columns = [cell for cell in cells if any(cell in row for row in rows.values())]
            if not columns:
                continue
            body = [[model, *(shown(name, row[cell]) if cell in row else "" for cell in columns)] for model, row in rows.items()]
            head = [_better(measure), *map(cell_title, columns)]
            blocks += [Heading(3, heading), Table(head, body, [row_anchor("Table 1", model) for model in rows])]
    return blocks


def _better(measure: Measure) -> str:
    return f"Model ({measure.better} is better)" if measure.better else "Model"


def made_table(tables: Mapping[str, Results], address: str) -> Table:
    """What made each model's numbers, by table. address: of MLflow's dashboards."""

    def run(place: str | None) -> str:
        return f"[{place.rpartition('/')[2][:8]}]({address}/{place})" if place else ""

    rows, names = [], []
    for table, report in ((table, report) for table, results in tables.items() for report in results.values()):
        made = report["made_from"]
        data = ", ".join(f"{column} `{digest[:12]}`" for column, digest in made["data"].items())
        rows.append(
            [
                report["name"],
                table,
                _weights(made),
                run(report["runs"].get("training")),
                run(report["runs"].get("evaluation")),
                data,
                f"`{made['backbone']}`" if "backbone" in made else "",
            ]
        )
        names.append(row_anchor(table, report["name"]))
    return Table(
        ["Model", "Where", "Checkpoint, sha256", "Training run", "Evaluation run", "Data, sha256", "Backbone"], rows, names=names
    )


def _weights(made: Mapping[str, Any]) -> str:
    if "checkpoint" in made:
        return f"`{made['checkpoint'][:12]}`"
    return ", ".join(f"{part} `{digest[:12]}`" for part, digest in made.get("weights", {}).items()) or "not ours"


def ablation_grid(results: Results, pairs: Any, gs: str, rows: int) -> np.ndarray:
    """Figure 11's layout: sketch, reference, then one column a model at one guidance scale."""
    names = [name for name in PAPER["table1"]["rows"] if name in results]
    columns = [pairs.sketches[:rows], pairs.references[:rows], *(results[n]["images_by_cell"][gs][:rows] for n in names)]
    return rows_image(columns, ["sketch", "reference", *names])


def guidance_grid(report: Mapping[str, Any], pairs: Any, rows: int) -> np.ndarray:
    """Sketch, reference, then one column a guidance scale."""
    images = report["images_by_cell"]
    columns = [pairs.sketches[:rows], pairs.references[:rows], *(images[cell][:rows] for cell in images)]
    return rows_image(columns, ["sketch", "reference", *map(cell_title, images)])


def finished_figure(name: str) -> str:
    """The file that a finished colorizer's grid goes to: its base and drop rate, as a path and a URL alike."""
    return f"finished_{name.partition(' ')[0]}.png"


def curves(results: Results, guidance: Sequence[float]) -> str:
    """CSV of the measures against GS, one line a model and GS, for `dvc plots show`; `distance` is the first one that there is."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    known = [m for m in CURVES if any(m in report["measures"] for report in results.values())]
    rows.writerow(["model", "gs", "distance", *known])
    for name, report in in_order(results).items():
        for gs in guidance:
            values = [report["measures"].get(m, {}).get(f"{gs:g}", {}).get("value") for m in known]
            rows.writerow([name, gs, values[0], *values])
    return buffer.getvalue()


def draw_curves(results: Results, guidance: Sequence[float], folder: Path) -> list[Block]:
    """Plots as SVG in `folder`/curves, one line a model with its intervals, and the blocks that show them: structure against colour
    with a point a GS; every measure against GS; and the measures of the distribution problem against SGS, where there are any.
    """
    from src.curves import Line, plot

    ordered = in_order(results)
    (folder / "curves").mkdir(parents=True, exist_ok=True)
    blocks: list[Block] = []

    def draw(stem: str, title: str, lines: list[Line], x_title: str, y_title: str, ticks: bool = True) -> None:
        if lines:
            write_text(folder / "curves" / f"{stem}.svg", plot(lines, x_title, y_title, ticks))
            blocks.append(Figure(title, f"figures/curves/{stem}.svg", plot=True))

    def along(measure: str, places: Mapping[str, float]) -> list[Line]:
        scale = MEASURES[measure].scale
        lines = []
        for model, report in ordered.items():
            column = report["measures"].get(measure, {})
            there = [(x, column[cell]) for cell, x in places.items() if cell in column]
            if len(there) > 1:
                values = [[cell.get(part, cell["value"]) * scale for _, cell in there] for part in ("value", "low", "high")]
                lines.append(Line(model, [x for x, _ in there], *values))
        return lines

    both = []
    for model, report in ordered.items():
        colour, structure = (report["measures"].get(name, {}) for name in ("colour", "structure"))
        cells = [f"{gs:g}" for gs in guidance if f"{gs:g}" in colour and f"{gs:g}" in structure]
        if cells:
            values = [structure[cell]["value"] for cell in cells]
            both.append(Line(model, [colour[cell]["value"] for cell in cells], values, values, values))
    draw("structure-colour", "Structure against colour, a point a GS", both, "colour", "structure", ticks=False)
    for name in CURVES:
        how = MEASURES[name]
        title = f"{how.title}{how.unit}" + (f" ({how.better} is better)" if how.better else "")
        draw(anchor(name), title, along(name, {f"{gs:g}": gs for gs in guidance}), "GS", title)
    at = {cell.partition("/")[0] for report in ordered.values() for cell in report["cells"] if "/" in cell}
    for gs in sorted(at):
        known = dict.fromkeys(cell for report in ordered.values() for cell in report["cells"] if cell.partition("/")[0] == gs)
        places = {cell: float(cell.partition("/")[2] or 1) for cell in known}
        for name in ("separation", "structure", "colour", "leakage"):
            title = f"{MEASURES[name].title} along SGS at GS-{gs}"
            draw(
                f"{anchor(name)}-sgs-at-{anchor(gs)}",
                title,
                along(name, dict(sorted(places.items(), key=lambda p: p[1]))),
                "SGS",
                title,
            )
    return blocks


def save_png(path: Path, image: np.ndarray) -> None:
    """uint8 [H, W, 3] as PNG."""
    from src.data.images import to_png

    write_atomically(path, lambda f: f.write(to_png(image)))


def summary(results: Results, finished: Results) -> dict[str, dict[str, float]]:
    """What `dvc metrics show` prints, one row a model: its best distance and its best separation, each with its GS."""
    models: dict[str, dict[str, float]] = {}
    for name, report in [*in_order(results).items(), *finished.items()]:
        distance = next(d for d in DISTANCES if d in report["measures"])
        models[name] = {}
        for measure, choose in ((distance, min), ("separation", max)):
            column = {cell: c["value"] for cell, c in report["measures"].get(measure, {}).items() if "/" not in cell}
            if column:
                best = choose(column, key=lambda cell, column=column: column[cell])  # type: ignore[misc]
                models[name] |= {measure: round(column[best], 4), f"{measure} at GS": float(best)}
    return models


def losses(results: Results) -> list[Block]:
    """Every model's loss on held-out drawings, with their references and without (the paper's Figure 13)."""
    rows = []
    for name, report in in_order(results).items():
        values = report["validation"]
        if None not in values.values():
            rows.append([name, f"{values['val_loss']:.4f}", f"{values['val_loss_without_reference']:.4f}"])
    text = "Mean squared error of the predicted noise on held-out drawings, with fixed timesteps and noise."
    return [Text(text), Table(["Model", "with its reference", "without reference"], rows)]


def page(
    scale: str,
    gs: str,
    tables: Sequence[Block],
    compared: Sequence[Block],
    measures: Sequence[Block],
    plots: Sequence[Block],
    found: Sequence[Block],
    finished: Results,
    ablation: Results,
    edits: Sequence[Mapping[str, Any]],
    made: Table,
) -> list[Block]:
    """The whole report."""
    blocks: list[Block] = [Heading(1, f"Report at scale {scale}")]
    blocks += [Text("Written by `dvc repro`. The last chapter names what made each number; in `index.html` numbers lead there.")]
    blocks += [*found, *tables]
    if compared:
        blocks += [
            *compared,
            Heading(3, f"Baselines grid, ours at GS-{gs}"),
            Figure("baselines grid", "figures/baselines_grid.png"),
        ]
    blocks += [Heading(2, "Against GS"), *plots]
    blocks += [Heading(2, "The distribution problem and other measures"), Text("docs/metrics.md defines them."), *measures]
    blocks += [Heading(2, f"Ablation grid, GS-{gs}"), Figure("ablation grid", "figures/ablation_grid.png")]
    blocks += [Heading(2, "Guidance grid"), Figure("guidance grid", "figures/guidance_grid.png")]
    blocks += [Heading(2, "Validation loss"), *losses(ablation)]
    if finished:
        blocks += [Heading(2, "Shipped colorizers"), *_finished(finished)]
    if edits:
        blocks += [Heading(2, "Text edits"), *edits_tables(edits)]
        blocks += [Figure(title, f"figures/{file}") for title, file in edits_figures(edits)]
    return [*blocks, Heading(2, "What made these numbers"), made]


def _finished(finished: Results) -> list[Block]:
    text = (
        "Palette nearer to the own reference: share of held-out pairs (and random other references) in which a result's palette is "
        "nearer to its own reference than to the other one (sliced Wasserstein distance in Lab); the rest as above."
    )
    rows, anchors = [], []
    cells = list(next(iter(finished.values()))["cells"])
    for name, report in finished.items():
        for measure in ("palette closer", "separation", "structure", "colour", "leakage", "FD-EffNet"):
            if measure in report["measures"]:
                column = report["measures"][measure]
                model = f"{name}, noise level {report['noise_level']:g}, {report['images']} pairs"
                rows.append([model, MEASURES[measure].title, *(shown(measure, column[cell]) for cell in cells)])
                anchors.append(row_anchor("Shipped colorizers", name))
    figures = [Figure(name, f"figures/{finished_figure(name)}") for name in finished]
    return [Text(text), Table(["Model", "Measure", *map(cell_title, cells)], rows, anchors), *figures]
