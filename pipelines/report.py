"""Stage: tables, grids, curves and a page about them in `reports/<scale>/`."""

import shutil
from pathlib import Path

from pipelines import overrides, params, run_stage, stage_config
from src.document import markdown
from src.document import page as html_page
from src.edits_page import edits_sequence, edits_series, load_edits
from src.evaluate import held_out_pairs
from src.files import UserError, write_json
from src.findings import findings
from src.metrics.samples import too_small
from src.report import (
    NOTE,
    ablation_grid,
    baselines_grid,
    curves,
    draw_curves,
    finished_figure,
    guidance_grid,
    load_results,
    made_table,
    measure_tables,
    page,
    save_png,
    summary,
    table1,
    table2,
    table2_measures,
    write_table,
    write_text,
)
from src.tracking import log_parent

ROWS, GRID_GS = 8, "2"
DASHBOARDS = "http://127.0.0.1:5000"  # of `make mlflow`


def main(_: list[str]) -> None:
    values = params()
    scale, guidance = values["scale"], values["guidance"]
    config = stage_config([], "evaluate")
    evaluation, out = Path("evaluation", scale), Path("reports", scale)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    ablation = {name: r for family in values["families"] for name, r in load_results(evaluation / family).items()}
    ours, finished = load_results(evaluation / "table2"), load_results(evaluation / "finished")
    others = load_results(evaluation / "baselines") | load_results(evaluation / "others")
    pairs = held_out_pairs(config)
    shown = held_out_pairs(stage_config(overrides(values["finished"]["config"]), "evaluate"))
    for name, report in others.items():
        if name in ours or report["made_from"]["pairs"] != pairs.identity:
            raise UserError(f"{name} of {evaluation} has the name of a row of ours or is on other pairs: measure it anew.")

    warning = too_small(len(pairs), 1280) or ""  # FD-EffNet's dimensions
    note = NOTE.format(size=config.data.size, scale=scale, images=len(pairs), warning=warning)
    one, two = table1(ablation, guidance), table2(ours, others, values["table2"]["config"]["gs"])
    first = write_table(one, out / "table1", f"Table 1 at scale {scale}: ablation models, VP sigmas", note)
    second = write_table(two, out / "table2", f"Table 2 at scale {scale}: against baselines, Karras sigmas", note) if ours else []
    write_text(out / "curves.csv", curves(ablation, guidance))
    plots = draw_curves(ablation, guidance, out / "figures")
    gs = GRID_GS if GRID_GS in next(iter(ablation.values()))["images_by_cell"] else f"{guidance[0]:g}"
    save_png(out / "figures" / "ablation_grid.png", ablation_grid(ablation, pairs, gs, ROWS))
    compared = table2_measures(ours, others) if others else []
    if others:
        save_png(out / "figures" / "baselines_grid.png", baselines_grid(ours, others, pairs, gs, ROWS))
    best = next(iter(ablation.values()))
    save_png(out / "figures" / "guidance_grid.png", guidance_grid(ablation.get("Noisy-0 (7 epochs)", best), pairs, ROWS))
    for name, report in finished.items():
        save_png(out / "figures" / finished_figure(name), guidance_grid(report, shown, ROWS))
    edits = load_edits(evaluation / "edits")
    for report in edits:
        save_png(out / "figures" / f"edits_series_{report['kind']}.png", edits_series(report, ROWS))
        if report.get("in_sequence"):
            save_png(out / "figures" / "edits_sequence.png", edits_sequence(report))
    shutil.rmtree(out / "metrics", ignore_errors=True)
    (out / "metrics").mkdir()
    for name, numbers in summary(ablation, finished).items():
        write_json(out / "metrics" / f"{name}.json", numbers)
    made = made_table({"Table 1": ablation, "Table 2": {**ours, **others}, "Shipped colorizers": finished}, DASHBOARDS)
    measures = measure_tables(ablation, guidance)
    blocks = page(
        scale, gs, [*first, *second], compared, measures, plots, findings(ablation, pairs.drawings), finished, ablation, edits, made
    )
    write_text(out / "README.md", markdown(blocks))
    write_text(out / "index.html", html_page(f"Report at scale {scale}", blocks, out))
    for table, written in (("table1", first), ("table2", second)):
        log_parent(config, table, markdown(written))


if __name__ == "__main__":
    run_stage(main)
