"""Stage: trains one family of the ablation grid by Hydra multiruns. `python -m pipelines.family <family>`."""

import subprocess
import sys
from pathlib import Path

from pipelines import chosen, code_hash, continued, params, run_stage
from src.files import UserError


def main(arguments: list[str]) -> None:
    (family,) = arguments
    sweeps = params()["families"][family]
    folder = continued(Path("runs") / params()["scale"] / family, code_hash("train"))
    for sweep in sweeps:
        command = [sys.executable, "-m", "src.train", "-m", *chosen(), f"runs={folder}", "overwrite=true", *sweep.split()]
        print(" ".join(command[1:]), flush=True)
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"The sweep `{sweep}` of the family {family} failed, see above. `dvc repro` continues it.")


if __name__ == "__main__":
    run_stage(main)
