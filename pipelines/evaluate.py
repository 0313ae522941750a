"""Stage: evaluates every run of one family for Table 1. `python -m pipelines.evaluate <family>`."""

from pathlib import Path

from pipelines import code_hash, continued, params, run_stage, stage_config
from src.evaluate import evaluate


def main(arguments: list[str]) -> None:
    (family,) = arguments
    scale = params()["scale"]
    out = continued(Path("evaluation") / scale / family, code_hash("evaluate"))
    config = stage_config(["table=table1", f"gs={params()['guidance']}".replace(" ", ""), f"out={out}"], "evaluate")
    folders = sorted(p.parent for p in Path("runs", scale, family).glob("*/model.safetensors"))
    evaluate(config, folders)


if __name__ == "__main__":
    run_stage(main)
