"""What tasks print, on its way from a child through the node.

A child's standard output and error are the node's own, and nothing costs anything, unless its tasks
are of a job whose output is kept. Then both lead into a pipe, which the node's loop reads. So what a
task wrote before it died is there, however it wrote it. The node passes everything on to its
own standard error, and tells which task each part is of. To that end the child writes a mark before
each task: a secret of this child, and the task's serial.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from manyhands_worker.host.process_snapshot import file_of

#: What is kept of one task's output, in bytes. Its first part goes to the broker as it comes, its last
#: part when the task ends.
HEAD_BYTES = 16 << 10
LAST_BYTES = 48 << 10
#: A part of a task's output goes to the broker when it has this size, or this age.
PART_BYTES = 4 << 10
PART_SECONDS = 0.2
#: Characters that are told at once.
_MESSAGE_CHARS = 32 << 10
_TAIL_BYTES = 1 << 10
_TAIL_LINES = 5
_SERIAL_DIGITS = 16
_CHUNK = 64 << 10
#: Bytes read of one child before the others get their turn; more than a pipe holds.
_TURN_BYTES = 256 << 10
#: A pipe that can be written takes so much at once without blocking.
_SAFE_BYTES = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF
_CUT = "\n[more was printed here: {:,} bytes that are not kept]\n"


def new_mark() -> bytes:
    """A mark that no task prints by chance. It has one zero byte, its first."""
    return b"\0" + os.urandom(16).hex().encode()


def flush_streams() -> None:
    """Have what Python keeps back of this process's output written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001 - a task may have closed or replaced it
            continue


class OutputRedirect:
    """The child's side: leads its output into the pipe, or to where it went at first."""

    def __init__(self, pipe: Connection[Any, Any], mark: bytes) -> None:
        self._pipe = pipe
        self._mark = mark
        self._first: tuple[int, int] | None = None
        self._home = [file_of(number) for number in (0, 1, 2)]
        self._inside = file_of(pipe.fileno())

    def fileno(self) -> int:
        """The descriptor of the pipe."""
        return self._pipe.fileno()

    def leads(self) -> bool:
        """Whether the standard streams lead where they were led."""
        out = self._home[1:] if self._first is None else [self._inside] * 2
        return [file_of(number) for number in (0, 1, 2)] == [self._home[0], *out]

    def turn(self, *, on: bool) -> None:
        """Lead the output into the pipe, or not any more.

        Raises:
            OSError: a task has closed the descriptors.
        """
        if on == (self._first is not None):
            return
        flush_streams()
        if self._first is None:
            self._first = os.dup(1), os.dup(2)
            os.dup2(self._pipe.fileno(), 1)
            os.dup2(self._pipe.fileno(), 2)
            with contextlib.suppress(Exception):  # a task may have replaced it
                sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        else:
            for number, fd in enumerate(self._first, 1):
                os.dup2(fd, number)
                os.close(fd)
            self._first = None

    def begin(self, serial: int) -> None:
        """From here on, the output is that of the task `serial`."""
        flush_streams()
        os.write(self._pipe.fileno(), self._mark + b"%0*x" % (_SERIAL_DIGITS, serial))


class Capture:
    """The node's side: reads a child's pipe and cuts it by task."""

    def __init__(self, pipe: Connection[Any, Any], mark: bytes) -> None:
        self._pipe = pipe
        self.fd = pipe.fileno()
        os.set_blocking(self.fd, False)
        self._mark = mark
        self._rest = b""
        self._serial = 0
        self._part = bytearray()
        self._room = HEAD_BYTES
        self._tail = b""
        #: The last of what was printed beyond the head, and how much more that was.
        self._last = bytearray()
        self._left_out = 0
        #: When the part that waits is to go out, if it does not grow.
        self.due: float | None = None
        self._ended = False

    def ended(self) -> bool:
        """Whether nothing can come any more."""
        return self._ended

    def read(self, now: float) -> list[tuple[int, str]]:
        """Read what is there: (serial, text) of each part that is to go out."""
        found: list[tuple[int, str]] = []
        room = _TURN_BYTES
        while room > 0 and not self._ended:
            try:
                data = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                break
            self._ended = not data
            room -= len(data)
            self._take(data, found)
        if self._part:
            if len(self._part) >= PART_BYTES:
                found += self.flush()
            elif self.due is None:
                self.due = now + PART_SECONDS
        return found

    def _take(self, data: bytes, found: list[tuple[int, str]]) -> None:
        data, self._rest = self._rest + data, b""
        if b"\0" not in data:
            self._add(data)
            return
        head, *marked = data.split(self._mark)
        # The mark may be cut off at the end of what has come.
        if marked and len(marked[-1]) < _SERIAL_DIGITS and not self._ended:
            self._rest = self._mark + marked.pop()
        elif not self._ended:
            last = marked[-1] if marked else head
            at = last.rfind(b"\0", -len(self._mark))
            if at >= 0 and self._mark.startswith(last[at:]):
                self._rest = last[at:]
                if marked:
                    marked[-1] = last[:at]
                else:
                    head = last[:at]
        self._add(head)
        for part in marked:
            found += self.finish()
            # A task that forges a mark gets what it names.
            with contextlib.suppress(ValueError):
                self._serial = int(part[:_SERIAL_DIGITS], 16)
            self._room, self._tail = HEAD_BYTES, b""
            self._add(part[_SERIAL_DIGITS:])

    def _add(self, data: bytes) -> None:
        if not data:
            return
        _pass_on(data)
        self._tail = (self._tail + data)[-2 * _TAIL_BYTES :]
        self._part += data[: self._room]
        more = data[self._room :]
        self._room -= len(data) - len(more)
        if more:
            self._last += more
            over = len(self._last) - LAST_BYTES
            if over > 0:
                self._left_out += over
                del self._last[:over]

    def finish(self) -> Iterator[tuple[int, str]]:
        """All that waits: the task has ended."""
        if self._left_out:
            self._part += _CUT.format(self._left_out).encode()
            self._left_out = 0
        self._part += self._last
        self._last.clear()
        yield from self.flush()

    def flush(self) -> Iterator[tuple[int, str]]:
        """The part that waits, if there is one."""
        self.due = None
        if self._part:
            text = self._part.decode("utf-8", "replace").replace("\0", "\ufffd")
            self._part.clear()
            for start in range(0, len(text), _MESSAGE_CHARS):
                yield self._serial, text[start : start + _MESSAGE_CHARS]

    def last_words(self, serial: int) -> str:
        """The last lines that the task `serial` has printed, in one."""
        if serial != self._serial:
            return ""
        lines = self._tail.decode("utf-8", "replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()][-_TAIL_LINES:]
        return " | ".join(lines)[-_TAIL_BYTES:]

    def close(self) -> None:
        """Give the descriptor back."""
        self._ended = True
        self._pipe.close()


def _pass_on(data: bytes) -> None:
    """Write to the node's own standard error, as much as it takes without blocking the node."""
    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        while data and poll.poll(0):
            data = data[os.write(2, data[:_SAFE_BYTES]) :]
    except OSError:
        return  # it is closed; the job's log has it
