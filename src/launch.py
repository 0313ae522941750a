"""One job in several processes, which torchrun starts here, or torchrun or SLURM started on every machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from src.files import Stopped, UserError

LAUNCHED = "COLORIZE_LAUNCHED"


def launched() -> bool:
    """Whether `launch` started this process: its arguments are then as Hydra gave them, quoted already."""
    return LAUNCHED in os.environ


def rank() -> int | None:
    """This process's number among those that torchrun or SLURM started together; None where it is on its own."""
    number = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    return None if number is None else int(number)


def launch(module: str, arguments: Sequence[str], count: int, name: str) -> None:
    """`python -m <module> <arguments>` in `count` processes of this machine, until the last has ended.

    Lightning's own launcher would repeat this process's command line, which in a sweep is the whole sweep. SIGTERM and SIGINT are
    for them: they save and leave, and this raises Stopped. UserError where they failed by themselves; `name` is for the message.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m", module]
    # They leave with a checkpoint, for which torchrun's usual 30 seconds may not do.
    process = subprocess.Popen([*command, *arguments], env=os.environ | {LAUNCHED: "1", "PET_SHUTDOWN_TIMEOUT": "600"})
    asked = []

    def forward(number: int, _: Any) -> None:
        asked.append(number)
        if number == signal.SIGTERM:  # SIGINT comes from a terminal, which sends it to all of them
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        message = f"{name} ended early in its {count} processes, see above; the same command continues it."
        raise Stopped(message) if asked else UserError(message)
