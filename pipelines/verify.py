"""Checks a data set: `python -m pipelines.verify [data set root]`, without a root the one that `params.yaml` chooses.

Every shard's bytes are compared with its column's index, and every column's keys with those of `color`. The first bad shard is
named, with exit code 1.
"""

from pipelines import run_stage, stage_config
from src.data.columns import ColumnError, verify
from src.data.storage import folder


def main(arguments: list[str]) -> None:
    root = folder(arguments[0] if arguments else stage_config().data.root)
    splits = [split for split in root.folders() if "color" in (root / split).folders()]
    if not splits:
        raise ColumnError(f"{root} is no data set: none of its folders has a column `color`.")
    for split in splits:
        color = root / split / "color"
        others = [name for name in (root / split).folders() if name != "color"]
        print(f"{color}: {verify(color)} rows")
        for name in others:
            print(f"{root / split / name}: {verify(root / split / name, color)} rows")


if __name__ == "__main__":
    run_stage(main)
