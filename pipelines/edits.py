"""Stage: how the shipped colorizers answer text edits. `python -m pipelines.edits`."""

from pipelines import params, run_stage, stage_config
from src.edits import evaluate_edits


def main(_: list[str]) -> None:
    values = params()
    overrides = [f"{key}={value}".replace(" ", "") for key, value in values["edits"]["config"].items()]
    evaluate_edits(stage_config([*overrides, f"out=evaluation/{values['scale']}/edits"], "edits"))


if __name__ == "__main__":
    run_stage(main)
