"""Names of shared memory."""

from __future__ import annotations

from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.shared_memory.segments import Segment

#: Names of one segment, which are written together. `SharedMemory` gives it one.
MAX_NAMES = 16


class MemoryNames:
    """What `SharedMemory` asks of names.

    Args:
        memory: of all programs.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def name(self, program: bytes, name: str, key: bytes) -> bool:
        """Name a segment; return whether it was."""
        memory, segment = self._memory.programs.get(program), self._memory.segments.get(key)
        if memory is None or segment is None or segment.program != program or name in memory.names:
            return False
        if len(segment.names) >= MAX_NAMES:
            return False
        memory.names[name] = key
        segment.names[name] = None
        self._memory.changed(segment)
        return True

    def find(self, program: bytes, name: str) -> Segment | None:
        """Return the segment of a name."""
        memory = self._memory.programs.get(program)
        return None if memory is None else self._memory.segments.get(memory.names.get(name, b""))

    def unname(self, program: bytes, name: str) -> bool:
        """Take a name away; return whether there was one."""
        segment = self.find(program, name)
        if segment is None:
            return False
        del self._memory.programs[program].names[name], segment.names[name]
        self._memory.changed(segment)
        self._memory.settle(segment)
        return True
