"""Many jobs of one function: in processes of this machine, or as tasks of a Ray cluster, with the same results."""

import itertools
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.files import UserError

ROOT = Path(__file__).resolve().parents[2]
AHEAD = 2  # jobs that wait for each worker, so that none waits for a job


@dataclass(frozen=True)
class Engine:
    """Where jobs run.

    name: `local`, in processes of this machine; or `ray`.
    workers: jobs at a time; None = one a core (or GPU), on Ray as many as the cluster has room for.
    address: of a running Ray cluster; None = one is started on this machine, and stopped at the end.
    gpu: each job has a GPU to itself, if there are any: the only one that it sees.
    """

    name: str = "local"
    workers: int | None = 1
    address: str | None = None
    gpu: bool = False


def run(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], engine: Engine) -> Iterator[Any]:
    """The results of `function(*job)` as they are finished, in any order. An error in a job stops the others and is raised here."""
    if engine.name == "ray":
        return _ray(function, jobs, engine)
    if engine.name != "local":
        raise UserError(f"data.engine is {engine.name!r}; it is `local` or `ray`.")
    return _local(function, jobs, engine)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """This machine's GPUs, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


def _local(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], engine: Engine) -> Iterator[Any]:
    gpus = _gpus() if engine.gpu else []
    room = max(1, len(gpus)) if engine.gpu else cores()  # where there is no GPU one process has all cores
    workers = min(engine.workers or room, room if engine.gpu else len(jobs), len(jobs))
    if workers <= 1:
        yield from (function(*job) for job in jobs)
        return
    import multiprocessing

    # CUDA does not survive a fork.
    context = multiprocessing.get_context("spawn" if gpus else None)
    numbers: Any = context.Queue()
    for number in range(workers):
        numbers.put(gpus[number] if gpus else None)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(function, numbers))
    waiting: set[Any] = set()
    left = iter(jobs)
    try:
        while True:
            waiting |= {pool.submit(_call, job) for job in itertools.islice(left, AHEAD * workers - len(waiting))}
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool:
        raise UserError(
            "A worker process died, perhaps for want of memory. Run this again: it continues; data.workers=1 needs least memory."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable[..., Any]


def _begin(function: Callable[..., Any], numbers: Any) -> None:
    """A worker's first act."""
    global _function  # noqa: PLW0603
    _function = function
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if (gpu := numbers.get()) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def _call(job: tuple[Any, ...]) -> Any:
    return _function(*job)


def _end_with_parent() -> None:
    """Without this, workers of a killed build would stay for ever, and write on for a while."""
    import multiprocessing
    from multiprocessing.connection import wait as wait_for

    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _ray(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], engine: Engine) -> Iterator[Any]:
    try:
        import ray
    except ImportError:
        raise UserError("data.engine=ray needs Ray: pip install -e '.[ray]'") from None
    started = not ray.is_initialized()
    if started:
        # To a cluster the code travels with the job; on this machine it is where it is.
        place: dict[str, Any] = (
            {"address": engine.address, "runtime_env": {"py_modules": [str(ROOT / "src")]}}
            if engine.address
            else {"address": "local", "num_cpus": engine.workers or cores(), "include_dashboard": False}
        )
        try:
            if engine.address and (found := re.search(r"([^/]+):(\d+)$", engine.address)):
                socket.create_connection((found[1], int(found[2])), 10).close()  # Ray itself would try for minutes
            ray.init(**place, log_to_driver=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"There is no Ray cluster at {engine.address} ({str(error).splitlines()[0]}).") from None
    try:
        yield from _tasks(ray, function, jobs, engine)
    finally:
        if started:
            ray.shutdown()


def _tasks(ray: Any, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], engine: Engine) -> Iterator[Any]:
    gpu = engine.gpu and ray.cluster_resources().get("GPU", 0) > 0
    task = ray.remote(num_cpus=1, num_gpus=1 if gpu else 0)(_apply)
    shipped, home = ray.put(function), os.getcwd()
    waiting: list[Any] = []
    left = iter(jobs)
    while True:
        room = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 1))  # a cluster may grow
        limit = min(AHEAD * room, engine.workers or AHEAD * room)
        waiting += [task.remote(shipped, job, home) for job in itertools.islice(left, max(0, limit - len(waiting)))]
        if not waiting:
            return
        done, waiting = ray.wait(waiting)
        try:
            yield from ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise UserError(f"Ray lost a task ({str(error).splitlines()[0]}). Run this again: it continues.") from None


def _apply(function: Callable[..., Any], job: tuple[Any, ...], home: str) -> Any:
    """One job in the folder of the build, where that is shared: relative paths then mean the same."""
    if os.path.isdir(home):
        os.chdir(home)
    return function(*job)
