"""Tables 1 and 2, what else was measured, their figures, and the page about them. Ours stand beside the paper's numbers."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.document import Block, Bullets, Figure, Heading, Table, Text, anchor, markdown
from src.files import write_atomically, write_json
from src.grids import rows_image
from src.held_out import OUTSIDE, read_arrays
from src.measure import MEASURES, Measure, cell_title, shown

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
    """Our row at every guidance scale, other methods' rows, then the paper's baselines, which this pipeline does not run yet."""
    paper = PAPER["table2"]
    records = [
        _record(name, report, f"{gs:g}", gs, _paper_value(paper["ours"].get(name), paper["columns"], gs))
        for name, report in results.items()
        for gs in guidance
    ]
    records += [_record(name, report, OUTSIDE, None, paper["baselines"].get(name)) for name, report in others.items()]
    left = {name: value for name, value in paper["baselines"].items() if name not in others}
    return records + [{"model": name, "gs": None, "paper_fid": value, "ours": None} for name, value in left.items()]


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
                given = [there, *[""] * (len(scales) - 1)] if ours else ["not run yet"] * len(scales)
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
                f"`{made['checkpoint'][:12]}`" if "checkpoint" in made else "not ours",
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


def load_edits(folder: Path) -> list[dict[str, Any]]:
    """The reports of `src.edits`, attention models first, with their pictures by name in `pictures`."""
    reports = []
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            report["pictures"] = {name: arrays[name] for name in arrays.files}
        reports.append(report)
    return sorted(reports, key=lambda report: report["kind"])


def edits_tables(reports: Sequence[Mapping[str, Any]]) -> list[Block]:
    """What text edits did at every target scale, and by colour at the largest."""
    first = reports[0]
    drawings, edits = first["drawings"], len(first["edits"])
    text = (
        f"Each of {drawings} held-out drawings is its own reference, and an edit asks for another colour in one of its regions: "
        f"{edits} edits, local ones (Algorithm 2) for attention models, global ones (Algorithm 1) for CLS models. Nearer: share of "
        "edits after which the region's mean colour is nearer to the named colour of the palette than without the edit, same seed. "
        "Named: share in which it is nearer to the named colour than to any other one. Brackets hold the 95 % interval over "
        "drawings. Distances and changes are differences in Lab; a change's percentage is relative to that of the edited region. "
        "Direction: cosine between the change of CLIP's image embedding and that of the words (1: it moved as the words do). "
        "Repainted: no edit, but the reference with its region in the named colour, which is what the words ask for."
    )
    head = [
        "Model",
        "target_scale",
        "nearer",
        "named",
        "distance",
        "direction",
        "change of the region",
        "other regions",
        "background",
    ]
    rows = []
    for report in reports:
        rows.append([report["name"], "no edit", "", "", f"{report['distance_before']:.1f}", "", "", "", ""])
        for scale, r in report["responses"].items():
            changes = [_change(r[name], name != "region") for name in ("region", "others", "background")]
            direction = "-" if r["direction"] is None else f"{r['direction']:.2f}"
            shares = [_percent(r["closer"]), _percent(r["named"])]
            rows.append([report["name"], scale, *shares, f"{r['distance']:.1f}", direction, *changes])
    monotone = "Edits whose distance never rises as target_scale grows, by more than a just noticeable difference (2.3):"
    colours = list(dict.fromkeys(colour for report in reports for colour in report["by_colour"]))
    by_colour = []
    for report in reports:
        cells = [report["by_colour"][colour] for colour in colours]
        by_colour.append(
            [report["name"], *(f"{100 * c['closer']['share']:.0f} % / {100 * c['named']['share']:.0f} %" for c in cells)]
        )
    return [
        Text(text),
        Table(head, rows),
        Text(monotone),
        Bullets([f"{report['name']}: {_percent(report['monotone'])}" for report in reports]),
        Text(f"By colour at target_scale {first['target_scales'][-1]:g}, nearer / named:"),
        Table(["Model", *(f"{colour} ({first['by_colour'][colour]['edits']})" for colour in colours)], by_colour),
    ]


def _percent(share: dict[str, float]) -> str:
    return f"{100 * share['share']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _change(change: dict[str, float | None], relative: bool) -> str:
    if change["mean"] is None:
        return "-"
    return f"{change['mean']:.1f}" + (f" ({100 * change['relative']:.0f} %)" if relative and change["relative"] else "")


def edits_series(report: dict[str, Any], rows: int) -> np.ndarray:
    """Progressive series (the paper's Figure 18): sketch, reference, unedited, then one column a target scale."""
    pictures = report["pictures"]
    names = [f"edited_{scale}" for scale in report["responses"]]
    columns = [pictures[name][:rows] for name in ("sketches", "references", "unedited", *names)]
    return rows_image(columns, ["sketch", "reference", "no edit", *report["responses"]], labels=report["edits"][:rows])


def edits_sequence(report: dict[str, Any]) -> np.ndarray:
    """Sequences of two edits: where each acts (correlation map and zones over the reference), and the results after each."""
    names = ("sketches", "references", "map_1", "zones_1", "map_2", "zones_2", "after_0", "after_1", "after_2")
    titles = ("sketch", "reference", "first edit: correlation", "its zones", "second edit: correlation", "its zones")
    columns = [report["pictures"][f"sequence_{name}"] for name in names]
    return rows_image(columns, [*titles, "no edit", "after the first", "after both"], labels=report["in_sequence"])


def edits_figures(reports: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Title and file of each picture of text edits."""
    figures = [(f"{report['name']}, a series of target scales", f"edits_series_{report['kind']}.png") for report in reports]
    return figures + [(f"{r['name']}, two edits", "edits_sequence.png") for r in reports if r.get("in_sequence")]


def page(
    scale: str,
    gs: str,
    tables: Sequence[Block],
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
