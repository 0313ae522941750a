"""Stage: the baselines' rows of Table 2. `python -m pipelines.others`."""

from pathlib import Path

from pipelines import code_hash, continued, overrides, params, run_stage, stage_config
from src.evaluate import evaluate_baseline


def main(_: list[str]) -> None:
    values = params()
    chosen = values["table2"]
    out = continued(Path("evaluation") / values["scale"] / "baselines", code_hash("baselines"))
    for row in chosen["baselines"]:
        same = {key: value for key, value in chosen["config"].items() if key != "gs"}
        evaluate_baseline(stage_config([*overrides(same), f"baseline={row}", "table=table2", f"out={out}"], "evaluate"))


if __name__ == "__main__":
    run_stage(main)
