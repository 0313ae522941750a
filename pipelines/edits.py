"""Stage: how the shipped colorizers answer text edits. `python -m pipelines.edits`."""

from pathlib import Path

from pipelines import code_hash, continued, params, run_stage, stage_config
from src.edits import evaluate_edits


def main(_: list[str]) -> None:
    values = params()
    overrides = [f"{key}={value}".replace(" ", "") for key, value in values["edits"]["config"].items()]
    out = continued(Path("evaluation") / values["scale"] / "edits", code_hash("edits"))
    evaluate_edits(stage_config([*overrides, f"out={out}"], "edits"))


if __name__ == "__main__":
    run_stage(main)
