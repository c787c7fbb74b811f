"""From the figures in heartbeats to the pressure on machines; `core.model.machine` says what that is."""

from __future__ import annotations

import math
from typing import Any

from manyhands_broker.core import ExpectHeartbeats, Pressed
from manyhands_broker.core.model.machine import LOAD, MEMORY, NONE, Machine
from manyhands_broker.heartbeats.table import Row

#: Between two looks at the table: memory and load move slowly.
_INTERVAL = 1.0
#: Heartbeats missed after which the last one's figures count no more; and seconds, at the least.
_MISSED, _STALE = 5, 5.0
#: Times the reserve that must be available before memory is no longer short.
_RELIEF = 1.25
#: Load of others for each core: from where on it presses, and until it no longer does.
_BUSY, _CALM = 0.75, 0.5
#: Seconds over which the load average of a machine is one; the node's own work is averaged alike.
_AVERAGE = 60.0


class PressureGauge:
    """The pressure on one machine, from figure to figure."""

    __slots__ = ("_at", "_machine", "_own", "level")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._at: float | None = None
        self._own = 0.0
        self.level = NONE

    def read(self, now: float, available: int, load: float, own: float) -> str:
        """Take new figures; return the pressure now.

        Args:
            now: seconds, never falling.
            available: bytes of memory that programs can still have.
            load: the load average over one minute.
            own: cores that the node's own tasks are using, a part of that load.
        """
        self._average(now, own)
        reserve = self._machine.reserve * (_RELIEF if self.level == MEMORY else 1.0)
        others = (load - self._own) / max(1, self._machine.cores)
        if available < reserve:
            self.level = MEMORY
        elif others >= (_CALM if self.level == LOAD else _BUSY):
            self.level = LOAD
        else:
            self.level = NONE
        return self.level

    def forget(self) -> str:
        """Forget all figures; return the pressure: none."""
        self._at, self.level = None, NONE
        return self.level

    def _average(self, now: float, own: float) -> None:
        """Average our own load as the system averages all: or our last tasks would pass for others'."""
        if self._at is None:
            self._own = own
        else:
            self._own += (1 - math.exp((self._at - now) / _AVERAGE)) * (own - self._own)
        self._at = now


class Gauges:
    """Reads the last-seen table and says whose machine is under another pressure than before.

    Args:
        table: see `table`.
        interval: between two heartbeats of a node, in seconds.
    """

    def __init__(self, table: Any, interval: float) -> None:
        self._table = table
        self._stale = max(_STALE, _MISSED * interval)
        self._next = 0.0
        #: Row → boot id, gauge, and what the scheduler knows; at first it may know anything.
        self._expected: dict[int, tuple[bytes, PressureGauge]] = {}
        self._told: dict[int, str | None] = {}

    def expect(self, wanted: ExpectHeartbeats) -> None:
        """Look at this row from now on."""
        self._expected[wanted.row] = wanted.boot_id, PressureGauge(wanted.machine)
        self._told[wanted.row] = None

    def forget(self, number: int) -> None:
        """Look at it no more."""
        self._expected.pop(number, None)
        self._told.pop(number, None)

    def check(self, now: float) -> list[Pressed]:
        """What has changed since the last look."""
        if now < self._next:
            return []
        self._next = now + _INTERVAL
        changes = []
        for number, (boot_id, gauge) in self._expected.items():
            row: Row = self._table[number]
            arrived = row.arrived
            if row.beats and now - arrived <= self._stale:
                own = max(float(row.running), row.cpu)
                level = gauge.read(now, row.available, row.load, own)
            elif row.beats or now - arrived > self._stale:
                level = gauge.forget()
            else:
                continue  # the first heartbeat is still to come
            if level != self._told[number]:
                self._told[number] = level
                changes.append(Pressed(number, boot_id, level))
        return changes
