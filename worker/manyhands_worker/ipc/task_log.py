"""What is kept for the journal of what a child's tasks print: the head and the end of each task's."""

from __future__ import annotations

from collections.abc import Iterator

#: What is kept of one task's output, in bytes. Its first part goes to the broker as it comes, its last
#: part when the task ends. While it runs, the last part so far goes now and then.
HEAD_BYTES = 16 << 10
LAST_BYTES = 48 << 10
#: A part of a task's output goes to the broker when it has this size, or this age.
PART_BYTES = 4 << 10
PART_SECONDS = 0.2
#: Between two last parts of a task that runs on.
LAST_SECONDS = 10.0
_CUT = "\n[more was printed here: {:,} bytes that are not kept]\n"


class TaskLog:
    """The output of one task after the other: what is added, and what of it is to go out."""

    def __init__(self) -> None:
        self._serial = 0
        self._part = bytearray()
        self._room = HEAD_BYTES
        #: The last of what was printed beyond the head, and how much more that was.
        self._last = bytearray()
        self._left_out = 0
        #: When the part that waits is to go out, if it does not grow; and when the last part so far is.
        self._part_due: float | None = None
        self._last_due: float | None = None

    def __bool__(self) -> bool:
        return bool(self._part or self._last)

    @property
    def due(self) -> float | None:
        """When `sent_on` has something to yield."""
        return min((at for at in (self._part_due, self._last_due) if at is not None), default=None)

    def add(self, serial: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add output of a task; yield what is to go out of the task before, if that was another."""
        if serial != self._serial:
            yield from self.finish()
            self._serial, self._room = serial, HEAD_BYTES
        self._part += data[: self._room]
        more = data[self._room :]
        self._room -= len(data) - len(more)
        if more:
            self._last += more
            over = len(self._last) - LAST_BYTES
            if over > 0:
                self._left_out += over
                del self._last[:over]

    def sent_on(self, now: float) -> Iterator[tuple[int, bytes]]:
        """Yield the part that waits if it is large or old enough, and the last part now and then."""
        if self._last:
            if self._last_due is None:
                self._last_due = now + LAST_SECONDS
            elif now >= self._last_due:
                yield from self.finish()
        if not self._part:
            return
        if len(self._part) >= PART_BYTES or (self._part_due is not None and now >= self._part_due):
            yield from self._flush()
        elif self._part_due is None:
            self._part_due = now + PART_SECONDS

    def finish(self) -> Iterator[tuple[int, bytes]]:
        """Yield all that waits: the task has ended, or runs on for long."""
        self._last_due = None
        if self._left_out:
            self._part += _CUT.format(self._left_out).encode()
            self._left_out = 0
        self._part += self._last
        self._last.clear()
        yield from self._flush()

    def _flush(self) -> Iterator[tuple[int, bytes]]:
        self._part_due = None
        if self._part:
            data = bytes(self._part)
            self._part.clear()
            yield self._serial, data
