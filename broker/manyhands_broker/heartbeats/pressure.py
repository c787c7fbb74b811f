"""From the figures in heartbeats to the pressure on machines; `core.model.machine` says what that is."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core import ExpectHeartbeats, Pressed
from manyhands_broker.core.model.machine import PressureGauge
from manyhands_broker.heartbeats.table import Row

#: Between two looks at the table: memory and load move slowly.
_INTERVAL = 1.0
#: Heartbeats missed after which the last one's figures count no more; and seconds, at the least.
_MISSED, _STALE = 5, 5.0


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
        self._watched: dict[int, tuple[bytes, PressureGauge]] = {}
        self._told: dict[int, str | None] = {}

    def watch(self, wanted: ExpectHeartbeats) -> None:
        """Look at this row from now on."""
        self._watched[wanted.row] = wanted.boot_id, PressureGauge(wanted.machine)
        self._told[wanted.row] = None

    def unwatch(self, number: int) -> None:
        """Look at it no more."""
        self._watched.pop(number, None)
        self._told.pop(number, None)

    def check(self, now: float) -> list[Pressed]:
        """What has changed since the last look."""
        if now < self._next:
            return []
        self._next = now + _INTERVAL
        changes = []
        for number, (boot_id, gauge) in self._watched.items():
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
