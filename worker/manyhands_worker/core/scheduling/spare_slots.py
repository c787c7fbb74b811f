"""Slots beyond the node's own: each serves while the task in another slot waits for tasks.

Otherwise tasks that wait for tasks of the same cluster would take all slots, and wait for ever. So their
number has no bound: with one, tasks that deep below each other would take these slots as well. The
broker is told which tasks these are: what else they take of the node counts as free there meanwhile.
"""

from __future__ import annotations

from collections import defaultdict

from manyhands_shared.protocol.messages import Span
from manyhands_worker.core import effects
from manyhands_worker.core.model import Key
from manyhands_worker.core.scheduling.slots import SlotScheduler


class SpareSlots:
    """Opens and closes spare slots. What is to be done goes to the list `out`.

    Args:
        scheduler: has the slots.
        slots: the node's own; spare ones have the numbers behind them.
    """

    def __init__(self, scheduler: SlotScheduler, slots: int, out: list[effects.Effect]) -> None:
        self._scheduler = scheduler
        self._own = slots
        self._out = out
        #: Slots whose task waits for tasks, and that task as long as it is known.
        self._lending: dict[int, tuple[Key, int] | None] = {}
        self._open: set[int] = set()
        self._changed = False

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def lent(self) -> list[Span]:
        """The tasks that wait for tasks."""
        tasks: defaultdict[Key, list[int]] = defaultdict(list)
        for task in self._lending.values():
            if task is not None:
                tasks[task[0]].append(task[1])
        return [Span(job, attempt, indices) for (job, attempt), indices in tasks.items()]

    def lend(self, slot: int, task: tuple[Key, int] | None, *, on: bool) -> None:
        """Note that the task in a slot waits for tasks, or does so no more."""
        if not on:
            self._changed |= self._lending.pop(slot, None) is not None
        elif self._lending.get(slot) != task:
            self._changed = True
            self._lending[slot] = task
        else:
            self._lending.setdefault(slot)

    def serves(self, slot: int) -> bool:
        """Return whether a slot is one of the node's own, or open."""
        return slot < self._own or slot in self._open

    def turn(self) -> bool:
        """Open as many as are lent, and close the others; return whether anything has changed."""
        if not (self._lending or self._open or self._changed):
            return False
        before = len(self._open)
        changed, self._changed = self._changed, False
        wanted = len(self._lending)
        while len(self._open) < wanted:
            number = self._closed()
            self._open.add(number)
            self._out.append(effects.Open(number))
        if before > wanted:
            slots = self._scheduler.slots
            for number in sorted(self._open, key=lambda number: bool(slots[number].batches)):
                if len(self._open) == wanted:
                    break
                self._open.discard(number)
                slots[number].worn = slots[number].closed = True
                # One that is being killed has its task until its death is told.
                if not (slots[number].up or slots[number].batches):
                    self._out.append(effects.Close(number))
        return changed or len(self._open) != before

    def _closed(self) -> int:
        """Return the number of a slot that is closed and empty."""
        slots = self._scheduler.slots
        for slot in slots[self._own :]:
            if not (slot.number in self._open or slot.up or slot.batches or slot.revoking):
                slot.worn = slot.closed = False
                return slot.number
        return self._scheduler.add_slot()
