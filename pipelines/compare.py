"""Stage: our row of Table 2, and the finished colorizers on held-out pairs. `python -m pipelines.compare <table2|finished>`."""

from pathlib import Path

from pipelines import code_hash, continued, overrides, params, run_stage, stage_config
from src.evaluate import evaluate


def main(arguments: list[str]) -> None:
    (what,) = arguments
    values = params()
    chosen = values[what]
    out = continued(Path("evaluation") / values["scale"] / what, code_hash(what))
    config = stage_config([*overrides(chosen["config"]), f"table={what}", f"out={out}"], "evaluate")
    evaluate(config, [Path(folder.format(scale=values["scale"])) for folder in chosen["runs"]])


if __name__ == "__main__":
    run_stage(main)
