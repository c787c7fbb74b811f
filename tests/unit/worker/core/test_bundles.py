"""Which slot runs tasks that bring modules: one process never has those of two bundles."""

from __future__ import annotations

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status
from manyhands_worker.core import effects
from manyhands_worker.core.model import Batch, Rules
from manyhands_worker.core.scheduling.queue import QueuedTasks
from manyhands_worker.core.scheduling.slots import SlotScheduler
from manyhands_worker.core.scheduling.spare_slots import SpareSlots
from manyhands_worker.core.workload import Workload

A, B, NONE = b"a" * 16, b"b" * 16, b""


class Slots:
    """Slots with children, whose tasks end when a test says so."""

    def __init__(self, count: int) -> None:
        self.scheduler = SlotScheduler(count)
        for slot in range(count):
            self.scheduler.born(slot)
        self.now = 0.0
        self.tasks = 0

    def queue(self, bundle: bytes, count: int = 1) -> None:
        """Add tasks that bring a bundle."""
        indices = list(range(self.tasks, self.tasks + count))
        self.tasks += count
        rules = Rules(bundle=bundle)
        queued = QueuedTasks(("job", 1), b"f" * 16, indices, [b""] * count, b"code", rules)
        self.scheduler.queue.append(queued)

    def given(self) -> dict[int, bytes]:
        """Return the bundle of the batch that each slot is given now."""
        batches = self.scheduler.next_batches(self.now)
        return {slot: batch.rules.bundle for slot, batch in batches}

    def end(self, slot: int) -> None:
        """The tasks of a slot end, each after a second."""
        while self.scheduler.slots[slot].batches:
            batch: Batch = self.scheduler.slots[slot].batches[0]
            count = len(batch.indices)
            self.scheduler.finished(
                slot, batch.first, bytes([Status.OK]) * count, [b""] * count, float(count), self.now
            )

    def replaced(self) -> list[int]:
        """Return the slots whose children are replaced now; they are there at once."""
        slots = self.scheduler.worn_out()
        for slot in slots:
            self.scheduler.born(slot)
        return slots


def test_slot_is_bound_to_the_first_bundle_and_takes_no_other() -> None:
    slots = Slots(1)
    for bundle in (NONE, A, B, NONE):
        slots.queue(bundle)
    assert slots.given() == {0: NONE}
    slots.end(0)
    # A child without modules of a bundle may have some.
    assert slots.given() == {0: A}
    assert slots.replaced() == []
    slots.end(0)
    assert slots.given() == {}
    assert slots.replaced() == [0]
    assert slots.given() == {0: B}
    slots.end(0)
    assert slots.given() == {}
    assert slots.replaced() == [0]
    assert slots.given() == {0: NONE}


def test_slot_that_has_the_bundle_goes_first() -> None:
    slots = Slots(3)
    slots.queue(A)
    assert slots.given() == {0: A}
    slots.queue(B)
    assert slots.given() == {1: B}
    slots.end(0)
    slots.end(1)
    slots.queue(B)
    assert slots.given() == {1: B}
    assert slots.replaced() == []


def test_closed_spare_slots_are_not_waited_for() -> None:
    slots = Slots(2)
    spare = SpareSlots(slots.scheduler, 2, [])
    for bundle in (A, B):
        slots.queue(bundle)
    assert slots.given() == {0: A, 1: B}
    for on in (True, False):
        spare.lend(0, None, on=on)
        assert spare.turn()
    for slot in (0, 1):
        slots.end(slot)
    slots.queue(NONE)
    assert not slots.given()
    assert slots.replaced() == [0], "no other slot gets a child for the task"
    assert slots.given() == {0: NONE}


def test_bound_slot_goes_on_with_its_bundle_behind_tasks_that_have_a_slot() -> None:
    slots = Slots(2)
    slots.queue(A)
    slots.queue(B)
    assert slots.given() == {0: A, 1: B}
    slots.queue(B)
    slots.queue(A)
    slots.end(0)
    assert slots.given() == {0: A}
    assert slots.replaced() == []


def test_lone_task_of_another_bundle_takes_one_slot_of_many() -> None:
    slots = Slots(4)
    slots.queue(A, 4)
    assert len(slots.given()) == 4
    for slot in range(4):
        slots.end(slot)
    slots.queue(B)
    assert slots.given() == {}
    assert len(slots.replaced()) == 1
    assert list(slots.given().values()) == [B]


def test_bundles_share_the_slots_by_the_work_that_waits() -> None:
    slots = Slots(4)
    slots.queue(A, 4)
    slots.given()
    for _ in range(10):
        slots.queue(A, 4)
        slots.queue(B, 4)
    for _ in range(30):
        for slot in range(4):
            slots.end(slot)
            slots.given()
            slots.replaced()
            slots.given()
        if not slots.scheduler.queue.ready:
            break
        bound = [slot.binding for slot in slots.scheduler.slots if slot.batches]
        counts = bound.count(A), bound.count(B)
    assert not slots.scheduler.queue.ready
    assert min(counts) > 0


def test_task_waits_for_its_function_and_for_its_bundle() -> None:
    out: list[effects.Effect] = []
    work = Workload("n", 1, out, {})
    work.born(0)
    group = m.AssignGroup("j", 1, b"f" * 16, {"bundle": A.hex()}, [0], [b"x"])
    work.assign(m.Assign([group]))
    work.function(m.Function(b"f" * 16, "f", [b"code"]))
    work.start_tasks(0.0)
    sent = [effect.message for effect in out if isinstance(effect, effects.Send)]
    assert sent == [m.Need(b"f" * 16), m.Need(A)]
    work.validate()
    out.clear()
    work.function(m.Function(A, "modules", [b"modules"]))
    work.start_tasks(0.0)
    [start] = out
    assert isinstance(start, effects.Start)
    assert (start.batch.code, start.batch.modules) == (b"code", b"modules")
    assert start.batch.rules.bundle == A
