"""What holds of a node's tasks between two events, for tests and the simulator."""

from __future__ import annotations

from manyhands_worker.core.model import Key
from manyhands_worker.core.results.held_results import HeldResults
from manyhands_worker.core.results.outbox import Outbox
from manyhands_worker.core.scheduling.awaiting_values import AwaitingValues
from manyhands_worker.core.scheduling.slots import SlotScheduler
from manyhands_worker.core.task_set import TaskSet


def check_places(
    owned: TaskSet,
    scheduler: SlotScheduler,
    away: AwaitingValues,
    outbox: Outbox,
    held_results: HeldResults,
) -> None:
    """Check that each task that a node owns is in exactly one place.

    Raises:
        AssertionError: one is not.
    """
    places: dict[Key, list[int]] = {}
    queue = scheduler.queue
    for queued in queue.entries():
        places.setdefault(queued.key, []).extend(queued.indices[queued.start :])
    assert sum(map(len, places.values())) == queue.waiting, "the queue miscounts"
    for queued in away.entries():
        places.setdefault(queued.key, []).extend(queued.indices)
    for slot in scheduler.slots:
        for batch, low, high in slot.open_tasks():
            places.setdefault(batch.key, []).extend(batch.indices[low:high])
    scheduler.validate()
    entries = outbox.entries()
    for ended in entries:
        places.setdefault(ended.key, []).extend(ended.final)
        assert len(ended.indices) == len(ended.statuses) == len(ended.bodies)
    for key, tasks in held_results.tasks():
        places.setdefault(key, []).extend(tasks)
    assert outbox.nbytes == sum(ended.nbytes for ended in entries)
    for key, indices in places.items():
        found = [index for index in indices if owned.has(key, index)]
        assert len(found) == len(set(found)), f"a task of {key} is in two places"
    for key, wanted in owned.items():
        assert wanted <= set(places.get(key, ())), f"a task of {key} is nowhere"


def check_doomed(doomed: TaskSet, scheduler: SlotScheduler) -> None:
    """Check that each task to be killed has run, or is in a slot that will say how far it is, or die.

    Raises:
        AssertionError: one is not, and would run to its end.
    """
    for key, indices in doomed.items():
        for slot in scheduler.slots:
            for batch, low, high in slot.open_tasks():
                if batch.key != key:
                    continue
                ends = high if slot.revoking or not slot.up else slot.claim - batch.first
                indices.difference_update(batch.indices[low : max(low, min(ends, high))])
        assert not indices, f"tasks of {key} are cancelled, and nothing ends them"
