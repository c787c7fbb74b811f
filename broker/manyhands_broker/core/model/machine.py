"""What a node's machine is under besides the node's tasks, from what its heartbeats say.

Memory: less is available than the node wants to have free. Load: other programs keep most of the cores
busy. Both set in at one figure and end at another, so that a machine on the edge does not go back and
forth. Figures are as old as the last heartbeat, and those that are too old count as none. Without
figures a machine is under no pressure, for lost datagrams must never keep work from a node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Kinds of pressure; a machine under both is short of memory above all.
NONE, LOAD, MEMORY = "", "load", "memory"

#: Times the reserve that must be available before memory is no longer short.
_RELIEF = 1.25
#: Load of others for each core: from where on it presses, and until it no longer does.
_BUSY, _CALM = 0.75, 0.5
#: Seconds over which the load average of a machine is one; the node's own work is averaged alike.
_AVERAGE = 60.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node says once: bytes to be left available (0: any amount is enough), and cores."""

    reserve: int = 0
    cores: int = 1


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
