"""A long job as an iterator: one item a step, and no further step once nobody asks for more."""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Report = Callable[[Item], None]

# Whoever samples holds it: also a job that was given up, until the end of the step that it is at.
TURN = threading.Lock()


class GivenUp(Exception):
    """Nobody waits for the result any more."""


def stepwise(job: Callable[[Report[Item]], object]) -> Iterator[Item]:
    """Runs `job(report)` in a thread of its own and yields what it reports; a reader that is slow gets the newest report.

    Closing the iterator, which is what Gradio does with that of a cancelled event or of a client that hung up, makes the job's
    next call of `report` raise GivenUp. An error of the job is raised here.
    """
    items: SimpleQueue[Item] = SimpleQueue()
    failed: list[BaseException] = []
    wake, over, closed = threading.Semaphore(0), threading.Event(), threading.Event()

    def report(item: Item) -> None:
        if closed.is_set():
            raise GivenUp
        items.put(item)
        wake.release()

    def work() -> None:
        try:
            with TURN:
                if not closed.is_set():
                    job(report)
        except GivenUp:
            pass
        except BaseException as error:  # of any kind: it is raised where the iterator is read
            failed.append(error)
        over.set()
        wake.release()

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            wake.acquire()
            newest = None
            while not items.empty():
                newest = items.get()
            if newest is not None:
                yield newest
            elif over.is_set():
                break
        if failed:
            raise failed[0]
    finally:
        closed.set()
