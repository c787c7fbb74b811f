"""Whose turn it is: the ready queue by itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.state.ready_queue import ReadyQueue
from manyhands_shared.protocol.job_options import JobOptions

MANY = 10_000


def session(name: str, limit: int = 1 << 30) -> Session:
    made = Session(name.encode(), None, limit, 0.0)
    made.name = name
    return made


def job(owner: Session, name: str = "", **options: Any) -> Job:
    made = Job(name or owner.name, owner, bytes(16), JobOptions(**options), 0.0)
    made.append([b""] * MANY)
    return made


def turns(queue: ReadyQueue, count: int, cost: dict[str, float] | None = None) -> Counter[str]:
    """Give `count` turns of one task each; how many each job got."""
    got: Counter[str] = Counter()
    for _ in range(count):
        chosen = queue.next()
        assert chosen is not None
        assert chosen.take(1) is not None
        got[chosen.id] += 1
        queue.charge(chosen, (cost or {}).get(chosen.id, 1.0))
    return got


@pytest.fixture
def queue() -> ReadyQueue:
    return ReadyQueue()


def test_an_empty_queue(queue: ReadyQueue) -> None:
    assert queue.next() is None


def test_sessions_share_alike_whatever_they_have_queued(queue: ReadyQueue) -> None:
    greedy, modest = session("greedy"), session("modest")
    for number in range(9):
        queue.add(job(greedy, f"greedy{number}"))
    queue.add(job(modest))
    got = turns(queue, 1_000)
    assert got["modest"] == 500
    assert {got[f"greedy{number}"] for number in range(9)} <= {55, 56}


def test_the_share_is_of_work_not_of_tasks(queue: ReadyQueue) -> None:
    queue.add(job(session("slow")))
    queue.add(job(session("quick")))
    got = turns(queue, 1_100, {"slow": 10.0, "quick": 1.0})
    assert got["slow"] == pytest.approx(100, abs=2)
    assert got["quick"] == pytest.approx(1_000, abs=2)


def test_who_was_away_does_not_claim_the_past(queue: ReadyQueue) -> None:
    queue.add(job(session("first")))
    turns(queue, 500)
    queue.add(job(session("second")))
    got = turns(queue, 100)
    assert got["first"] == pytest.approx(50, abs=1)


def test_a_higher_priority_goes_first(queue: ReadyQueue) -> None:
    mine, theirs = session("mine"), session("theirs")
    low, high = job(mine, "low"), job(theirs, "high", priority=5)
    queue.add(low)
    queue.add(high)
    assert turns(queue, MANY) == {"high": MANY}
    assert turns(queue, 3) == {"low": 3}


def test_a_class_without_a_node_holds_nobody_up(queue: ReadyQueue) -> None:
    owner = session("owner")
    gpu = job(owner, "gpu", priority=9, resources={"gpu": 1.0})
    plain = job(owner, "plain")
    queue.add(gpu)
    queue.add(plain)
    assert queue.next() is gpu
    assert queue.next(without={gpu.kind}) is plain
    assert queue.next(without={gpu.kind, plain.kind}) is None
    assert queue.next() is gpu, "both are still in line"


def test_jobs_of_a_session_take_turns_whatever_their_kinds(queue: ReadyQueue) -> None:
    owner = session("owner")
    for name in ("one", "two"):
        queue.add(job(owner, name))
        queue.add(job(owner, f"{name} by value", needs=["cloudpickle=3"]))
    assert turns(queue, 1_000) == dict.fromkeys(("one", "two", "one by value", "two by value"), 250)


def test_they_do_so_also_beside_another_session(queue: ReadyQueue) -> None:
    owner, other = session("owner"), session("other")
    queue.add(job(owner, "plain"))
    queue.add(job(owner, "by value", needs=["cloudpickle=3"]))
    queue.add(job(other, "of another"))
    got = turns(queue, 1_000)
    assert got["of another"] == 500
    assert {got["plain"], got["by value"]} == {250}


def test_a_session_that_may_not_run_is_passed_over_until_it_may(queue: ReadyQueue) -> None:
    full, other = session("full", limit=10), session("other")
    queue.add(job(full))
    queue.add(job(other))
    full.unacked_bytes = 10
    assert turns(queue, 20) == {"other": 20}
    queue.add(job(full, "more"))
    assert turns(queue, 5) == {"other": 5}
    full.unacked_bytes = 0
    queue.unpark(full)
    got = turns(queue, 40)
    assert got["full"] + got["more"] == pytest.approx(20, abs=1), "it does not catch up either"


def test_a_cap_parks_too(queue: ReadyQueue) -> None:
    capped = session("capped")
    capped.limit = 2
    capped.fit(slots=8)
    queue.add(job(capped))
    capped.assigned = 2
    assert queue.next() is None
    capped.assigned = 1
    queue.unpark(capped)
    assert queue.next() is not None


def test_a_paused_job_leaves_the_line_and_comes_back(queue: ReadyQueue) -> None:
    owner = session("owner")
    one, two = job(owner, "one"), job(owner, "two")
    queue.add(one)
    queue.add(two)
    one.paused = True
    assert turns(queue, 4) == {"two": 4}
    queue.add(one)
    assert not one.listed
    one.paused = False
    queue.add(one)
    assert turns(queue, 4) == {"one": 2, "two": 2}


def test_a_job_is_listed_once(queue: ReadyQueue) -> None:
    one = job(session("owner"), "one")
    for _ in range(3):
        queue.add(one)
    [share] = queue._levels[0][one.kind].shares.values()
    assert sum(map(len, share.lanes.values())) == 1


def test_a_dropped_session_is_gone(queue: ReadyQueue) -> None:
    gone, stays = session("gone"), session("stays")
    leaving = job(gone)
    queue.add(leaving)
    queue.add(job(stays))
    queue.drop(gone)
    assert not leaving.listed
    assert turns(queue, 10) == {"stays": 10}


def test_only_what_waits_needs_anything_of_nodes(queue: ReadyQueue) -> None:
    waiting = job(session("owner"), needs=["cloudpickle=3"])
    queue.add(waiting)
    assert queue.needs() == {waiting.kind.needs}
    while waiting.take(MANY) is not None:
        pass
    assert queue.needs() == set()


def test_nothing_stays_of_what_is_over(queue: ReadyQueue) -> None:
    for number in range(50):
        done = job(session(f"s{number}"), priority=number, resources={"x": float(number)})
        queue.add(done)
        done.ready.clear()
    assert queue.next() is None
    assert not queue._levels
    assert not queue._order
