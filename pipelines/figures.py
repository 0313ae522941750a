"""Stage: one of the paper's figures. `python -m pipelines.figures <number> [Hydra overrides]`."""

from pipelines import run_stage, stage_config
from src.config import CONF
from src.figures import make
from src.files import UserError


def main(arguments: list[str]) -> None:
    number, *overrides = arguments
    known = sorted((path.stem.removeprefix("fig") for path in (CONF / "figure").glob("fig*.yaml")), key=int)
    if number not in known:
        raise UserError(f"There is no figure {number} in conf/figure: there are {', '.join(known)}.")
    for path in make(stage_config([f"figure=fig{number}", *overrides], "figures")):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run_stage(main)
