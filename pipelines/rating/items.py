"""Stage: the pictures that volunteers rate. `python -m pipelines.rating.items [Hydra overrides]`."""

from pipelines import run_stage, stage_config
from src.app.preparation import prepare
from src.config import plain
from src.entry import quoted


def main(arguments: list[str]) -> None:
    values = plain(stage_config(quoted(arguments, ["export", "out", "data.root"]), "rating"))
    if items := prepare(values):
        print(f"{values['out']}: {len(items)} items")


if __name__ == "__main__":
    run_stage(main)
