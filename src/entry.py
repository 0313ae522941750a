"""How entry points fail: one sentence and a non-zero exit for what a user can mend, a traceback for what is our fault."""

import errno
import functools
from collections.abc import Callable

from omegaconf import DictConfig


def reported(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Turns the project's own errors and a full disk into Hydra's one-line errors, so that a sweep's other jobs still run."""

    @functools.wraps(job)
    def run(config: DictConfig) -> None:
        from hydra.errors import CompactHydraException

        from src.files import UserError

        try:
            job(config)
        except UserError as error:
            raise CompactHydraException(f"error: {error}") from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise CompactHydraException(f"error: No space left on the device ({error.filename}). Nothing was lost.") from None
            raise

    return run
