"""What members write, until their program's root has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from manyhands_shared.protocol.messages.coordination import ProcessOutput

#: Bytes of one program that wait here for its root, before its members are not read any more.
MAX_BYTES = 4 << 20


class MemberOutput:
    """One stream of a member: what the root has not taken yet, and where that is in the stream."""

    def __init__(self) -> None:
        self._end = 0
        self._chunks: deque[tuple[int, bytes]] = deque()

    #: Bytes that the root has not taken.
    nbytes = 0

    def add(self, data: bytes) -> int:
        """Keep what was written; return where it is."""
        at = self._end
        self._chunks.append((at, data))
        self._end += len(data)
        self.nbytes += len(data)
        return at

    def taken(self, until: int) -> int:
        """Forget what is before `until`; return how many bytes that was."""
        freed = 0
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1]) <= until:
            freed += len(self._chunks.popleft()[1])
        self.nbytes -= freed
        return freed

    def lacks(self, until: int) -> bool:
        """Whether the root, which has all before `until`, lacks what comes next."""
        return bool(self._chunks) and until >= self._chunks[0][0]

    def messages(self, member: bytes, program: bytes, stream: int) -> Iterator[ProcessOutput]:
        """Everything that the root has not taken."""
        for at, data in self._chunks:
            yield ProcessOutput(member, program, stream, at, [data])
