"""Tables 1 and 2, their figures and a page about them, from evaluation results. Ours stand beside the paper's numbers."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.files import write_atomically, write_json
from src.grids import rows_image

PAPER = json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))
NOTE = (
    "Ours are another data set (OpenMoji, {size} px), another scale ({scale}) and, unless the column says FID, other features "
    "than the paper's: compare rows with rows, never a number of ours with one of the paper's. "
    "Ours are over {images} results a cell, fewer samples than feature dimensions; brackets hold the 95 % bootstrap interval."
)


def load_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Evaluation reports by run name; `images` holds the sampled pictures by guidance scale."""
    reports = {}
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            report["images_by_gs"] = {name.removeprefix("gs"): arrays[name] for name in arrays.files}
        reports[report["name"]] = report
    return reports


def table1(results: dict[str, dict[str, Any]], guidance: Sequence[float]) -> list[dict[str, Any]]:
    """One record a model and guidance scale: the paper's FID and our distances with intervals. Paper's row order first."""
    paper = PAPER["table1"]
    names = [name for name in paper["rows"] if name in results] + [name for name in results if name not in paper["rows"]]
    return [
        _record(name, results[name], gs, _paper_value(paper["rows"].get(name), paper["columns"], gs))
        for name in names
        for gs in guidance
    ]


def table2(results: dict[str, dict[str, Any]], guidance: Sequence[float]) -> list[dict[str, Any]]:
    """Our row at every guidance scale, then the paper's baselines, which this pipeline does not run yet."""
    paper = PAPER["table2"]
    records = [
        _record(name, report, gs, _paper_value(paper["ours"].get(name), paper["columns"], gs))
        for name, report in results.items()
        for gs in guidance
    ]
    return records + [{"model": name, "gs": None, "paper_fid": value, "ours": None} for name, value in paper["baselines"].items()]


def _paper_value(row: Sequence[float] | None, columns: Sequence[str], gs: float) -> float | None:
    return row[columns.index(f"GS-{gs:g}")] if row and f"GS-{gs:g}" in columns else None


def _record(name: str, report: dict[str, Any], gs: float, paper: float | None) -> dict[str, Any]:
    ours = {distance: column.get(f"{gs:g}") for distance, column in report["distances"].items()}
    return {"model": name, "gs": gs, "paper_fid": paper, "ours": ours}


def write_table(records: Sequence[dict[str, Any]], stem: Path, title: str, note: str) -> str:
    """`<stem>.json`, `.csv` and `.md`; returns the Markdown."""
    write_json(stem.with_suffix(".json"), {"title": title, "note": note, "cells": records})
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["model", "gs", "paper_fid", "distance", "ours", "low", "high"])
    for r in records:
        for distance, measured in (r["ours"] or {"": None}).items():
            cell = measured or {}
            rows.writerow([r["model"], r["gs"], r["paper_fid"], distance, cell.get("value"), cell.get("low"), cell.get("high")])
    write_text(stem.with_suffix(".csv"), buffer.getvalue())
    markdown = _markdown(records, title, note)
    write_text(stem.with_suffix(".md"), markdown)
    return markdown


def write_text(path: Path, text: str) -> None:
    """UTF-8, whole or not at all."""
    write_atomically(path, lambda f: f.write(text.encode()))


def _markdown(records: Sequence[dict[str, Any]], title: str, note: str) -> str:
    distances = list(next((r["ours"] for r in records if r["ours"]), {}))
    scales = sorted({r["gs"] for r in records if r["gs"] is not None})
    cells = {(r["model"], r["gs"]): r for r in records}
    lines = [f"# {title}", "", note, ""]
    for distance in distances:
        best = {
            gs: min((r["ours"][distance]["value"] for r in records if r["ours"] and r["gs"] == gs), default=None) for gs in scales
        }
        lines += [
            f"## Ours, {distance}",
            "",
            _row(["Model", *(f"GS-{gs:g}" for gs in scales)]),
            _row(["---"] * (len(scales) + 1)),
        ]
        for model in dict.fromkeys(r["model"] for r in records):
            if (model, None) in cells:
                lines.append(_row([model, *["not run yet"] * len(scales)]))
                continue
            shown = []
            for gs in scales:
                cell = cells[model, gs]["ours"][distance]
                value = f"{cell['value']:.2f}"
                value = f"**{value}**" if cell["value"] == best[gs] else value
                shown.append(f"{value} [{cell['low']:.2f}, {cell['high']:.2f}]")
            lines.append(_row([model, *shown]))
        lines.append("")
    lines += ["## The paper's, FID", "", _row(["Model", *(f"GS-{gs:g}" for gs in scales)]), _row(["---"] * (len(scales) + 1))]
    for model in dict.fromkeys(r["model"] for r in records):
        if (model, None) in cells:
            lines.append(_row([model, f"{cells[model, None]['paper_fid']:.2f}", *[""] * (len(scales) - 1)]))
        else:
            values = [cells[model, gs]["paper_fid"] for gs in scales]
            lines.append(_row([model, *("" if v is None else f"{v:.2f}" for v in values)]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def ablation_grid(results: dict[str, dict[str, Any]], pairs: Any, gs: str, rows: int) -> np.ndarray:
    """Figure 11's layout: sketch, reference, then one column a model at one guidance scale."""
    names = [name for name in PAPER["table1"]["rows"] if name in results]
    columns = [pairs.sketches[:rows], pairs.references[:rows], *(results[n]["images_by_gs"][gs][:rows] for n in names)]
    return rows_image(columns, ["sketch", "reference", *names])


def guidance_grid(report: dict[str, Any], pairs: Any, rows: int) -> np.ndarray:
    """Sketch, reference, then one column a guidance scale."""
    images = report["images_by_gs"]
    columns = [pairs.sketches[:rows], pairs.references[:rows], *(images[gs][:rows] for gs in images)]
    return rows_image(columns, ["sketch", "reference", *(f"GS-{gs}" for gs in images)])


def finished_figure(name: str) -> str:
    """The file that a finished colorizer's grid goes to: its base and drop rate, as a path and a URL alike."""
    return f"finished_{name.partition(' ')[0]}.png"


def curves(records: Sequence[dict[str, Any]]) -> str:
    """CSV of every distance against GS, one line a model, for `dvc plots show`."""
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["model", "gs", "distance"])
    for r in records:
        if r["ours"]:
            rows.writerow([r["model"], r["gs"], next(iter(r["ours"].values()))["value"]])
    return buffer.getvalue()


def save_png(path: Path, image: np.ndarray) -> None:
    """uint8 [H, W, 3] as PNG."""
    from src.data.images import to_png

    write_atomically(path, lambda f: f.write(to_png(image)))


def summary(records: Sequence[dict[str, Any]], finished: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """What `dvc metrics show` prints, one row a model: its best distance with its GS, and its colour transfer if it is finished."""
    models: dict[str, dict[str, float]] = {}
    for r in records:
        distance, cell = next(iter(r["ours"].items()))
        if r["model"] not in models or cell["value"] < models[r["model"]][distance]:
            models[r["model"]] = {distance: round(cell["value"], 3), "at GS": r["gs"]}
    for name, report in finished.items():
        distances = next(iter(report["distances"].items()))
        best = min(distances[1], key=lambda gs: distances[1][gs]["value"])
        closer = {f"palette closer, GS-{gs}": round(v["share"], 4) for gs, v in report["palette_closer"].items()}
        models[name] = {distances[0]: round(distances[1][best]["value"], 3), "at GS": float(best), **closer}
    return models


def losses(results: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown lines: every model's loss on held-out drawings, with their references and without (the paper's Figure 13)."""
    lines = ["Mean squared error of the predicted noise on held-out drawings, with fixed timesteps and noise.", ""]
    lines += [_row(["Model", "with its reference", "without reference"]), _row(["---"] * 3)]
    for name, report in results.items():
        values = report["validation"]
        if None not in values.values():
            lines.append(_row([name, f"{values['val_loss']:.4f}", f"{values['val_loss_without_reference']:.4f}"]))
    return lines


def load_edits(folder: Path) -> list[dict[str, Any]]:
    """The reports of `src.edits`, attention models first, with their pictures by name in `pictures`."""
    reports = []
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            report["pictures"] = {name: arrays[name] for name in arrays.files}
        reports.append(report)
    return sorted(reports, key=lambda report: report["kind"])


def edits_tables(reports: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown lines: what text edits did at every target scale, and by colour at the largest."""
    first = reports[0]
    drawings, edits = first["drawings"], len(first["edits"])
    lines = [
        f"Each of {drawings} held-out drawings is its own reference, and an edit asks for another colour in one of its regions: "
        f"{edits} edits, local ones (Algorithm 2) for attention models, global ones (Algorithm 1) for CLS models. Nearer: share of "
        "edits after which the region's mean colour is nearer to the named colour of the palette than without the edit, same seed. "
        "Named: share in which it is nearer to the named colour than to any other one. Brackets hold the 95 % interval over "
        "drawings. Distances and changes are differences in Lab; a change's percentage is relative to that of the edited region. "
        "Repainted: no edit, but the reference with its region in the named colour, which is what the words ask for.",
        "",
        _row(["Model", "target_scale", "nearer", "named", "distance", "change of the region", "other regions", "background"]),
        _row(["---"] * 8),
    ]
    for report in reports:
        lines.append(_row([report["name"], "no edit", "", "", f"{report['distance_before']:.1f}", "", "", ""]))
        for scale, r in report["responses"].items():
            changes = [_change(r[name], name != "region") for name in ("region", "others", "background")]
            lines.append(
                _row([report["name"], scale, _percent(r["closer"]), _percent(r["named"]), f"{r['distance']:.1f}", *changes])
            )
    lines += ["", "Edits whose distance never rises as target_scale grows, by more than a just noticeable difference (2.3):", ""]
    lines += [f"- {report['name']}: {_percent(report['monotone'])}" for report in reports]
    colours = list(dict.fromkeys(colour for report in reports for colour in report["by_colour"]))
    scale = f"{first['target_scales'][-1]:g}"
    lines += ["", f"By colour at target_scale {scale}, nearer / named:", ""]
    lines += [_row(["Model", *(f"{colour} ({first['by_colour'][colour]['edits']})" for colour in colours)])]
    lines += [_row(["---"] * (len(colours) + 1))]
    for report in reports:
        cells = [report["by_colour"][colour] for colour in colours]
        lines.append(
            _row([report["name"], *(f"{100 * c['closer']['share']:.0f} % / {100 * c['named']['share']:.0f} %" for c in cells)])
        )
    return lines


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


def edits_figures(reports: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Title and file of each picture of text edits."""
    figures = [(f"{report['name']}, a series of target scales", f"edits_series_{report['kind']}.png") for report in reports]
    return figures + [(f"{r['name']}, two edits", "edits_sequence.png") for r in reports if r.get("in_sequence")]


def page(
    scale: str,
    gs: str,
    first: str,
    second: str,
    finished: dict[str, dict[str, Any]],
    ablation: dict[str, dict[str, Any]],
    edits: Sequence[dict[str, Any]],
) -> str:
    """The report's README: tables, figures, and what the finished colorizers do."""
    lines = [f"# Report at scale `{scale}`", "", "Written by `dvc repro`; every number comes from `evaluation/`.", ""]
    lines += ["## Shipped colorizers", ""]
    lines += [
        "Share of held-out pairs (and random other references) in which a result's palette is nearer to its own reference "
        "than to the other one (sliced Wasserstein distance in Lab), with the 95 % interval:",
        "",
    ]
    scales = list(next(iter(finished.values()))["palette_closer"])
    lines += [_row(["Model", *(f"GS-{g}" for g in scales)]), _row(["---"] * (len(scales) + 1))]
    for name, report in finished.items():
        shares = [report["palette_closer"][g] for g in scales]
        lines.append(
            _row(
                [
                    f"{name}, noise level {report['noise_level']:g}, {report['images']} pairs",
                    *(f"{100 * s['share']:.1f} % [{100 * s['low']:.1f}, {100 * s['high']:.1f}]" for s in shares),
                ]
            )
        )
    lines += [""] + [f"![{name}](figures/{finished_figure(name)})" for name in finished]
    lines += [
        "",
        "## Text edits",
        "",
        *edits_tables(edits),
        "",
        *(f"![{alt}](figures/{file})" for alt, file in edits_figures(edits)),
    ]
    lines += ["", f"## Ablation grid, GS-{gs}", "", "![ablation grid](figures/ablation_grid.png)", ""]
    lines += ["## Guidance grid", "", "![guidance grid](figures/guidance_grid.png)", ""]
    lines += ["## Validation loss", "", *losses(ablation), ""]
    return (
        "\n".join(lines)
        + "\n"
        + first.replace("# ", "## ", 1).replace("\n## ", "\n### ")
        + "\n"
        + second.replace("# ", "## ", 1).replace("\n## ", "\n### ")
    )
