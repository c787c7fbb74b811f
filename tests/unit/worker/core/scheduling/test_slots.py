"""How many tasks a slot is given at a time."""

from __future__ import annotations

import pytest

from manyhands_shared.payloads import pickled, safe
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.programs import task
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.scheduling.queue import QueuedTasks
from manyhands_worker.core.scheduling.slots import SlotScheduler


def by_value() -> str:
    return "manyhands_shared.programs.task"


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (pickled.dumps(task.run), 40),
        (safe.pack_function(task.run), 40),
        (pickled.dumps(pickled.dumps), 10),
        (pickled.dumps_by_value(by_value), 10),
        ((pickled.dumps(task.run), b"a buffer"), 10),
    ],
    ids=["programs", "safe programs", "another", "one that names it", "with a buffer"],
)
def test_a_batch_of_programs_is_longer(code: Payload, count: int) -> None:
    scheduler = SlotScheduler(1)
    scheduler.born(0)
    scheduler.queue.append(QueuedTasks(("j", 1), b"f", list(range(200)), [b""] * 200, code))
    ((_, first),) = scheduler.next_batches(0.0)
    assert first.indices == [0], "nothing is known yet"
    scheduler.finished(0, first.first, bytes([Status.OK]), [b""], 0.001, 0.0)
    assert len(scheduler.next_batches(0.0)[0][1].indices) == count
