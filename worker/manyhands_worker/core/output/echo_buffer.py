"""What tasks of attached jobs have printed, on its way to their clients' terminals.

Nothing waits for it: beyond `WAITING_CHARS` further lines are dropped and counted. The broker may have
`UNREAD_CHARS` unread. It says what it has read by answering pings.
"""

from __future__ import annotations

from collections import deque
from itertools import count

from manyhands_shared.protocol.messages import Ping, Printed, PrintedGroup
from manyhands_worker.core.model import Key

#: Characters that wait for a link or for the broker, and those that the broker may not have read.
WAITING_CHARS = 2 << 20
UNREAD_CHARS = 2 << 20
#: Characters behind which a ping is sent, of one group, and of one message at most.
PING_CHARS = 64 << 10
GROUP_CHARS = 64 << 10
MESSAGE_CHARS = 1 << 20
_MESSAGE_GROUPS = 4_096
#: What a group takes beside its text.
_OVERHEAD = 100


class _Group:
    """Lines of one job's tasks to one stream."""

    __slots__ = ("index", "key", "lost", "size", "stream", "texts")

    def __init__(self, key: Key, index: int, stream: int, lost: int) -> None:
        self.key = key
        self.index = index
        self.stream = stream
        self.lost = lost
        self.texts: list[str] = []
        self.size = 0

    def told(self) -> PrintedGroup:
        """The group as it travels."""
        text = "".join(self.texts)
        return PrintedGroup(*self.key, self.index, self.stream, self.lost, text)


class EchoBuffer:
    """Lines that wait to be sent, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[_Group] = deque()
        self._size = 0
        #: Lines of each job that were dropped behind all that waits.
        self._lost: dict[tuple[Key, int, int], int] = {}
        self._unread = self._since = 0
        self._pings: deque[tuple[int, int]] = deque()
        self._numbers = count(1)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._lost)

    def add(self, key: Key, index: int, stream: int, text: str, *, apart: bool) -> None:
        """Add lines of a task, or of its job; `apart`: keep them from other tasks' lines."""
        last = self._waiting[-1] if self._waiting else None
        if self._size + len(text) + _OVERHEAD > WAITING_CHARS:
            place = (key, index, stream)
            if place not in self._lost:
                # Of the others of its job, one tells of all.
                place = next((one for one in self._lost if one[0] == key), place)
            self._lost[place] = self._lost.get(place, 0) + (text.count("\n") or 1)
            return
        if (
            last is None
            or self._lost
            or (last.key, last.stream) != (key, stream)
            or (apart and last.index != index)
            or last.size + len(text) > GROUP_CHARS
        ):
            self._tell_lost()
            last = _Group(key, index, stream, 0)
            self._waiting.append(last)
            self._size += _OVERHEAD
        last.texts.append(text)
        last.size += len(text)
        self._size += len(text)

    def _tell_lost(self) -> None:
        """Put groups in line that say how many lines were dropped before what comes."""
        for (key, index, stream), lines in self._lost.items():
            self._waiting.append(_Group(key, index, stream, min(lines, (1 << 32) - 1)))
            self._size += _OVERHEAD
        self._lost.clear()

    def take(self) -> list[Printed | Ping]:
        """Return what may be sent now."""
        messages: list[Printed | Ping] = []
        if not self._waiting:
            self._tell_lost()
        while self._waiting and self._unread < UNREAD_CHARS:
            groups: list[PrintedGroup] = []
            size = 0
            while self._waiting and size < MESSAGE_CHARS and len(groups) < _MESSAGE_GROUPS:
                group = self._waiting.popleft()
                size += group.size + _OVERHEAD
                groups.append(group.told())
            messages.append(Printed("", groups))
            self._size -= size
            self._unread += size
            self._since += size
            if self._since >= PING_CHARS:
                number = next(self._numbers)
                self._pings.append((number, self._since))
                self._since = 0
                messages.append(Ping(number))
        return messages

    def heard_of(self, ping: int) -> None:
        """The broker has read all up to a ping."""
        while self._pings and self._pings[0][0] <= ping:
            self._unread -= self._pings.popleft()[1]

    def relinked(self) -> None:
        """What was sent over the link before is read or lost."""
        self._unread = self._since = 0
        self._pings.clear()
