"""Slots beyond the node's own: each serves while the task in another slot waits for tasks.

Otherwise tasks that wait for tasks of the same cluster would take all slots, and wait for ever.
"""

from __future__ import annotations

from manyhands_worker.core import effects
from manyhands_worker.core.scheduling.slots import SlotScheduler

#: Spare slots of a node at one time: four for each slot of its own, or this number if that is more.
SPARES_EACH, LEAST_SPARES = 4, 32


class SpareSlots:
    """Opens and closes spare slots. What is to be done goes to the list `out`.

    Args:
        scheduler: has the slots.
        slots: the node's own; spare ones have the numbers behind them.
    """

    def __init__(self, scheduler: SlotScheduler, slots: int, out: list[effects.Effect]) -> None:
        self._scheduler = scheduler
        self._own = slots
        self._most = max(LEAST_SPARES, SPARES_EACH * slots)
        self._out = out
        #: Slots whose task waits for tasks.
        self._lending: set[int] = set()
        self._open: set[int] = set()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    def lend(self, slot: int, *, on: bool) -> None:
        """Note that the task in a slot waits for tasks, or does so no more."""
        if on:
            self._lending.add(slot)
        else:
            self._lending.discard(slot)

    def serves(self, slot: int) -> bool:
        """Return whether a slot is one of the node's own, or open."""
        return slot < self._own or slot in self._open

    def turn(self) -> bool:
        """Open as many as are lent, and close the others; return whether their number has changed."""
        if not (self._lending or self._open):
            return False
        before = len(self._open)
        wanted = min(len(self._lending), self._most)
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
                slots[number].worn = True
                # One that is being killed has its task until its death is told.
                if not (slots[number].up or slots[number].batches):
                    self._out.append(effects.Close(number))
        return len(self._open) != before

    def _closed(self) -> int:
        """Return the number of a slot that is closed and empty."""
        slots = self._scheduler.slots
        for slot in slots[self._own :]:
            if not (slot.number in self._open or slot.up or slot.batches or slot.revoking):
                slot.worn = False
                return slot.number
        return self._scheduler.add_slot()
