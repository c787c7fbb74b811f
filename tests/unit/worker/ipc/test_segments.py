"""Results in a child's segments when the node has few descriptors."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands_shared import shm
from manyhands_shared.protocol.held_result import Ticket
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import events
from manyhands_worker.core.model import HeldResult, Rules

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")


@pytest.fixture
def lender() -> Iterator[shm.Lender]:
    made = shm.Lender(f"test-{os.urandom(8).hex()}")
    yield made
    made.close()


@pytest.fixture
def leave(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Leave this number of descriptors. What earlier tests have closed, or will close, is no room."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling: list[int] = []

    def leave(count: int) -> None:
        gc.collect()
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        while not filling or filling[-1] < highest:
            filling.append(os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (filling[-1] + 1 + count, usual[1]))

    yield leave
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    for descriptor in filling:
        os.close(descriptor)


def _large() -> bytearray:
    return bytearray(b"x") * 500_000


def _reports(pool: Any) -> list[events.Finished]:
    return [event for event in pool.events if isinstance(event, events.Finished) and event.statuses]


def _held(pool: Any) -> list[HeldResult]:
    return [result for report in _reports(pool) for result in report.held_results]


@pytest.mark.parametrize("rules", [Rules(direct=True), Rules(direct=True, at_most_once=True)])
def test_with_few_descriptors_a_result_is_sent_instead_of_held(
    rig: Any, lender: shm.Lender, leave: Any, rules: Rules
) -> None:
    pool = rig(lender=lender)
    pool.until(lambda: pool.pool.pid(0))
    pool.submit(_large, rules=rules)
    pool.until(lambda: _held(pool), "a result is held")
    leave(8)
    assert pool.outcome(pool.submit(_large, rules=rules)) == [(Status.OK, _large())]
    assert len(_held(pool)) == 1
    assert not pool.deaths()
    for result in _held(pool):
        result.free()


def test_a_result_without_its_descriptor_comes_another_way(
    rig: Any, lender: shm.Lender, leave: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "manyhands_shared.processes.descriptors.running_short", lambda: False
    )  # it comes too late
    pool = rig(lender=lender)
    pool.call(abs, -1)
    leave(0)
    assert pool.outcome(pool.submit(_large, rules=Rules(direct=True))) == [(Status.OK, _large())]
    once = Rules(direct=True, at_most_once=True)
    [(status, value)] = pool.outcome(pool.submit(_large, rules=once))
    assert status in (Status.OK, Status.UNSENDABLE), value
    assert not pool.deaths()
    assert not _held(pool)


def test_when_memory_is_short_results_are_sent_and_those_lent_are_asked_for(
    rig: Any, lender: shm.Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = [False]
    monkeypatch.setattr("manyhands_worker.pool.pool.is_memory_short", lambda: short[0])
    pool = rig(lender=lender)
    rules = Rules(direct=True)
    pool.submit(_large, rules=rules)
    pool.until(lambda: _held(pool), "a result is held")
    [result] = _held(pool)
    ticket = Ticket.decode(result.ticket)
    borrower = shm.Borrower(lambda _, key: asked.append(key))
    asked: list[bytes | None] = []
    borrower.ask(ticket.lender, ticket.key)
    lender.turn()
    lender.turn()
    result.free()  # taken, but still looked at
    pool.turn()
    assert not asked
    short[0] = True
    pool.pool._weighed_at = 0.0
    pool.pool._sample(time.monotonic())  # as it does now and then while a child is at work
    [(_, _, found)] = borrower.turn()
    assert found is not None
    os.close(found[0])
    assert asked == [ticket.key]
    assert pool.outcome(pool.submit(_large, rules=rules)) == [(Status.OK, _large())]
    assert len(_held(pool)) == 1
    borrower.close()
