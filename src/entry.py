"""How entry points fail: one sentence and a non-zero exit for what a user can mend, a traceback for what is our fault."""

import errno
import functools
import sys
from collections.abc import Callable, Sequence

from omegaconf import DictConfig


def reported(job: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Turns the project's own errors and a full disk into Hydra's one-line errors, so that a sweep's other jobs still run."""

    @functools.wraps(job)
    def run(config: DictConfig) -> None:
        from hydra.errors import CompactHydraException

        from src.files import Stopped, UserError

        try:
            job(config)
        except Stopped as error:  # leaves a sweep as well, of which Hydra would go on with the next job
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except UserError as error:
            raise CompactHydraException(f"error: {error}") from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise CompactHydraException(f"error: No space left on the device ({error.filename}). Nothing was lost.") from None
            raise

    return run


def quoted(arguments: Sequence[str], paths: Sequence[str], or_lists: Sequence[str] = ()) -> list[str]:
    """Arguments with the values of the keys `paths` quoted for Hydra's grammar: whatever a path is called, it arrives as it is.

    But `null` stays none (a file of that name is `./null`).
    or_lists: keys that hold a path or, in brackets, a list in Hydra's grammar, which stays as it is.
    """
    result = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        is_list = key in or_lists and value.startswith("[") and value.endswith("]")
        if equals and key in {*paths, *or_lists} and not is_list and value != "null":
            body = value.replace("'", r"\'").replace("${", r"\${")
            body += "\\" * (len(body) - len(body.rstrip("\\")))  # a backslash before the closing quote would escape it
            result.append(f"{key}='{body}'")
        else:
            result.append(argument)
    return result
