"""A task that failed is no task that is lost: the ledger names its cause, and waits end at once."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from harness.cluster.ledger import Ledger
from harness.processes import eventually


class Executor:
    """Gives out futures that the test ends."""

    def __init__(self) -> None:
        self.futures: list[Future[int]] = []

    def submit(self, *_: object) -> Future[int]:
        self.futures.append(Future())
        return self.futures[-1]


def handed_in(folder: Path, count: int) -> tuple[Ledger, list[Future[int]]]:
    ledger, executor = Ledger(folder), Executor()
    stand_in: Any = executor
    for task in range(count):
        ledger.hand_in(stand_in, abs, task)
    return ledger, executor.futures


def test_a_failure_is_named_by_the_verdict_and_ends_waits(tmp_path: Path) -> None:
    ledger, (first, second) = handed_in(tmp_path, 2)
    first.set_result(0)
    assert ledger.has_delivered(1)
    assert not ledger.drained
    second.set_exception(OSError("its node was lost"))
    for look in (ledger.judge, lambda: ledger.drained, lambda: ledger.has_delivered(2)):
        with pytest.raises(AssertionError, match=r"task 1: OSError.*its node was lost") as caught:
            eventually(look)
        assert isinstance(caught.value.__cause__, OSError)


def test_so_is_a_cancellation(tmp_path: Path) -> None:
    ledger, (only,) = handed_in(tmp_path, 1)
    assert only.cancel()
    with pytest.raises(AssertionError, match="1 failed; first: task 0: CancelledError"):
        ledger.judge()
    assert isinstance(ledger.failures[0][1], CancelledError)
