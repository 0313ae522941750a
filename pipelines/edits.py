"""Stage: how the shipped colorizers answer text edits. `python -m pipelines.edits`."""

from pathlib import Path

from pipelines import code_hash, continued, overrides, params, run_stage, stage_config
from src.edits import evaluate_edits


def main(_: list[str]) -> None:
    values = params()
    out = continued(Path("evaluation") / values["scale"] / "edits", code_hash("edits"))
    evaluate_edits(stage_config([*overrides(values["edits"]["config"]), f"out={out}"], "edits"))


if __name__ == "__main__":
    run_stage(main)
