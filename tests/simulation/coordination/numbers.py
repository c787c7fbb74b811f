"""Shared memory of the simulated program: a counter under a lock, and a number of each process."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulation.coordination.host import Agent
    from simulation.coordination.member import Member

SEGMENT = b"segment".ljust(16, b"-")
#: Bytes of a number, and of all of them.
ITEM = 8
BYTES = 4096


class Numbers:
    """What one process sees of it.

    Args:
        memory: the segment on its host.
        member: the process.
    """

    def __init__(self, memory: memoryview, member: bytes) -> None:
        self._memory = memory
        self._place = 1 + int.from_bytes(member, "big") % (BYTES // ITEM - 1)
        #: What the process has written to its own number last.
        self._own = self._get(self._place)

    @property
    def counter(self) -> int:
        """The number that all processes add to."""
        return self._get(0)

    @counter.setter
    def counter(self, value: int) -> None:
        struct.pack_into("<q", self._memory, 0, value)

    def add_own(self) -> None:
        """Add to the number that no other process writes, without a lock."""
        found = self._get(self._place)
        assert found == self._own, f"a process finds {found} where it wrote {self._own}"
        self._own += 1
        struct.pack_into("<q", self._memory, self._place * ITEM, self._own)

    def _get(self, place: int) -> int:
        value: int = struct.unpack_from("<q", self._memory, place * ITEM)[0]
        return value


class Counter:
    """What the counter can be: every addition counts once, unless it was lost with its host."""

    def __init__(self) -> None:
        self._least = self._most = 0
        #: Who had the lock last without another host in between, and what these found at first.
        self._agent: Agent | None = None
        self._members: dict[Member, None] = {}
        self._floor = 0

    def found(self, member: Member, value: int) -> None:
        """A process that has the lock finds this."""
        least = self._floor if self._is_lost() else self._least
        assert least <= value <= self._most, f"{member} finds {value}: not {least} to {self._most}"
        if member.agent is not self._agent:
            self._agent, self._floor = member.agent, value
            self._members.clear()
        self._members[member] = None
        self._least = self._most = value

    def written(self, value: int) -> None:
        """The process with the lock writes this."""
        self._most = value

    def released(self) -> None:
        """It releases the lock."""
        self._least = self._most

    def _is_lost(self) -> bool:
        """Whether the host may be lost that wrote last, with what has not left it."""
        agent = self._agent
        return agent is not None and (
            not agent.alive or any(not member.runs for member in self._members)
        )
