"""Stage: tables, grids, curves and a page about them in `reports/<scale>/`."""

import shutil
from pathlib import Path

from pipelines import params, run_stage, stage_config
from src.evaluate import Pairs
from src.files import write_json
from src.report import (
    NOTE,
    ablation_grid,
    curves,
    edits_sequence,
    edits_series,
    finished_figure,
    guidance_grid,
    load_edits,
    load_results,
    page,
    save_png,
    summary,
    table1,
    table2,
    write_table,
    write_text,
)

ROWS, GRID_GS = 8, "2"


def main(_: list[str]) -> None:
    values = params()
    scale, guidance = values["scale"], values["guidance"]
    config = stage_config([], "evaluate")
    evaluation, out = Path("evaluation", scale), Path("reports", scale)
    (out / "figures").mkdir(parents=True, exist_ok=True)
    ablation = {name: r for family in values["families"] for name, r in load_results(evaluation / family).items()}
    ours, finished = load_results(evaluation / "table2"), load_results(evaluation / "finished")
    split = Path(config.data.root) / "val"
    pairs = Pairs(split, config.scale.evaluation.images, config.seed)
    shown = Pairs(split, values["finished"]["config"]["scale.evaluation.images"], config.seed)

    note = NOTE.format(size=config.data.size, scale=scale, images=len(pairs))
    one, two = table1(ablation, guidance), table2(ours, values["table2"]["config"]["gs"])
    first = write_table(one, out / "table1", f"Table 1 at scale {scale}: ablation models, VP sigmas", note)
    second = write_table(two, out / "table2", f"Table 2 at scale {scale}: against baselines, Karras sigmas", note)
    write_text(out / "curves.csv", curves(one))
    gs = GRID_GS if GRID_GS in next(iter(ablation.values()))["images_by_gs"] else f"{guidance[0]:g}"
    save_png(out / "figures" / "ablation_grid.png", ablation_grid(ablation, pairs, gs, ROWS))
    best = next(iter(finished.values()))
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
    for name, numbers in summary(one, finished).items():
        write_json(out / "metrics" / f"{name}.json", numbers)
    write_text(out / "README.md", page(scale, gs, first, second, finished, ablation, edits))


if __name__ == "__main__":
    run_stage(main)
