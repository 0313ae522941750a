"""One job at a time, which stops when nobody waits for it."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from src.app.steps import stepwise
from src.files import UserError


def test_what_a_job_reports_comes_in_order_and_its_last_always() -> None:
    seen = list(stepwise(lambda report: [report(i) for i in range(100)]))
    assert seen == sorted(seen) and seen[-1] == 99


def test_an_error_of_a_job_is_raised_where_it_is_read() -> None:
    def job(report: Callable[[int], None]) -> None:
        report(1)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        list(stepwise(job))


def test_a_job_that_was_given_up_stops_at_its_next_step_and_lets_the_next_one_run() -> None:
    reached: list[Any] = []
    go = threading.Event()

    def job(report: Callable[[int], None]) -> None:
        for step in range(3):
            report(step)
            reached.append(step)
            go.wait(30)

    abandoned = stepwise(job)
    assert next(abandoned) == 0
    waits = stepwise(lambda report: report("next"))
    abandoned.close()  # type: ignore[attr-defined]
    go.set()
    assert list(waits) == ["next"] and reached == [0]
