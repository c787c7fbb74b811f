"""Durable jobs in the scheduler: what is written when, and what a restart brings back."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import FUNCTION, World
from manyhands_broker.core import Drained, Limits, Persist, Received, Send
from manyhands_broker.core import records as r
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status


def test_a_durable_job_is_written_down_before_it_is_accepted(world: World) -> None:
    effects = []
    for message in (
        m.Function(FUNCTION, "f", [b"code"]),
        m.Submit([m.SubmitGroup("job", FUNCTION, {"durable": True}, 0, True, [b"a", b"b"])]),
    ):
        effects += world.core.handle(Received(b"client", message), world.now)
    effects += world.core.handle(Drained(), world.now)
    kinds = [type(e.record) for e in effects if isinstance(e, Persist)]
    assert kinds == [r.FunctionStored, r.JobOpened, r.TasksTaken, r.JobClosed]
    [accepted] = [e.message for e in effects if isinstance(e, Send)]
    assert accepted.jobs == [m.JobCount("job", 2)]  # type: ignore[union-attr]


def test_an_attached_job_writes_nothing(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    world.run_all()
    assert world.records == []


def test_a_restart_keeps_jobs(world: World) -> None:
    world.submit(3)
    world.restart()
    world.node()
    assert not world.assigned(), "nodes that run them already come first"
    world.wait(world.limits.rejoin_wait, b"node")
    assert world.run_all() == 3
    world.client()
    assert world.ask("job", id="job")["state"] == "done"
    world.restart()
    world.client()
    assert world.ask("job", id="job")["done"] == 3
    world.submit(3)
    assert world.take(b"client", m.Accepted)[-1].jobs == [m.JobCount("job", 3)]
    assert not world.take(b"client", m.Rejected)


def test_payloads_and_functions_come_back(world: World) -> None:
    world.submit(2)
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    assert world.take(b"node", m.Function)[0].bodies == [b"code"]
    assert {body for _, body in world.assigned().values()} == {b"arg0", b"arg1"}


def test_what_has_ended_does_not_run_again(world: World) -> None:
    world.node()
    world.submit(5)
    given = world.assigned()
    world.drain((b"node", world.result(0)), (b"node", world.result(1, status=Status.RAISED)))
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    ran = set()
    while given := world.assigned():
        ran |= {index for _, index in given}
        world.drain(*((b"node", world.result(i, n)) for (_, i), (n, _) in given.items()))
    assert ran == {2, 3, 4}
    world.client()
    found = world.ask("job", id="job")
    assert (found["done"], found["failed"], found["state"]) == (4, 1, "failed")


def test_running_attempts_are_adopted(world: World) -> None:
    world.node()
    world.submit(4)
    given = world.assigned()
    assert set(given) == {("job", 0), ("job", 1)}
    world.restart()
    span = m.Span("job", 1, [0, 1])
    assert world.node(holding=[span]) == [span]
    world.wait(1.0, b"node")
    assert not world.assigned(), "both slots are taken"
    world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    assert set(world.assigned()) == {("job", 2), ("job", 3)}


def test_an_adopted_task_whose_node_dies_runs_again(world: World) -> None:
    world.node()
    world.submit(4)
    world.restart()
    world.node(holding=[m.Span("job", 3, [0, 2])])
    world.drain((b"node", m.Bye("")))
    world.wait(1.0)
    world.node(b"other", slots=4)
    given = world.assigned(b"other")
    assert {index: attempt for (_, index), (attempt, _) in given.items()} == {
        0: 4,
        1: 1,
        2: 4,
        3: 1,
    }


def test_a_stale_attempt_is_not_adopted(world: World) -> None:
    world.node()
    world.submit()
    world.assigned()
    world.drain((b"node", m.Bye("")))
    world.node(b"other")
    assert world.assigned(b"other")["job", 0][0] == 2
    world.restart()
    assert world.node(holding=[m.Span("job", 1, [0])]) == []
    assert world.node(b"other", holding=[m.Span("job", 2, [0])]) == [m.Span("job", 2, [0])]


def test_what_a_node_holds_of_a_finished_job_is_dropped(world: World) -> None:
    world.node()
    world.submit()
    world.run_all()
    world.restart()
    assert world.node(holding=[m.Span("job", 1, [0])]) == []


def test_a_full_journal_refuses_what_is_new_and_only_that(world: World) -> None:
    journal = world.journal = MemoryJournal(limit=100)
    world.restart()
    world.client()
    world.submit(2, closed=False)
    journal._limit = 0
    world.submit(2, closed=False)
    assert not world.take(b"client", m.Rejected), "a copy of what is here needs no room"
    world.submit(1, first=2)
    [rejected] = world.take(b"client", m.Rejected)
    assert "full" in rejected.reason
    world.node()
    assert world.run_all() == 2


@pytest.mark.parametrize("resident", [0, 100])
def test_spilled_payloads_are_the_same(resident: int) -> None:
    world = World(Limits(resident_bytes=resident, lease=1e6))
    world.client()
    world.submit(3_000, closed=False)
    world.submit(10, first=3_000)
    world.wait(0.1)
    assert world.core.state.resident <= resident + 100
    world.node(slots=50)
    seen: dict[int, Any] = {}
    while given := world.assigned():
        seen |= {index: body for (_, index), (_, body) in given.items()}
        world.drain(*((b"node", world.result(i, n)) for (_, i), (n, _) in given.items()))
    assert seen == {index: b"arg%d" % index for index in range(3_010)}
    assert world.core.state.resident == 0


def test_spilling_in_the_drain_of_the_assignment() -> None:
    world = World(Limits(resident_bytes=0))
    world.client()
    world.node(slots=1)
    world.submit(3)
    assert world.run_all() == 3
