"""Moves of tasks are whole: what ends is reported, and a job is over behind its last result."""

from __future__ import annotations

from harness.worlds.broker import World
from manyhands_broker.core import records as r
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status


def test_a_job_is_over_behind_all_results_of_its_last_group() -> None:
    world = World()
    world.node(slots=2)
    world.client()
    world.submit(2, crash_limit=1)
    assert len(world.assigned()) == 2
    world.records.clear()
    bodies: list[Payload] = [b"value", Failure("manyhands.TaskCrashed", "killed").encode()]
    statuses = bytes([Status.OK, Status.CRASHED])
    group = m.ResultGroup("job", 1, [0, 1], statuses, bodies, 0.02)
    world.drain((b"node", m.Results(1, [group])))
    ends = [one for one in world.records if isinstance(one, r.TasksEnded | r.JobEnded)]
    assert [type(one) for one in ends] == [r.TasksEnded, r.TasksEnded, r.JobEnded]
    told = [group.indices for group in (one.group for one in ends if isinstance(one, r.TasksEnded))]
    assert told == [[1], [0]]
