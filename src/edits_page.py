"""What text edits did, as tables and pictures of the report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.document import Block, Bullets, Table, Text
from src.grids import rows_image


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
