"""What a child's tasks print, on the node's side: read from the child's pipes and cut by task.

See `output_redirect` for what comes. The job whose tasks print it decides what becomes of it. For a
durable job the node keeps the head and the end of each task's output, which go into the broker's
journal. It passes all of it on to its own standard error. For a job that is echoed it takes whole lines,
which go to the client's terminal. All other output it passes on alone.

A child that prints on and on wakes the node no more than some hundred times a second. Behind each read
the node leaves its pipes alone for a moment. It reads them before a report of the child in any case.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from manyhands_worker.ipc.output_redirect import MARK_DIGITS, SERIAL_DIGITS
from manyhands_worker.ipc.task_log import TaskLog

#: How long the pipes are left alone behind a read that brought little, and behind one that brought much.
_PAUSE_SECONDS, _SHORT_PAUSE_SECONDS = 0.010, 0.002
_MUCH_BYTES = 64 << 10
_CHUNK = 256 << 10
#: Bytes read of one pipe before others get their turn; more than a pipe holds.
_TURN_BYTES = 1 << 20
#: What a pipe is to hold, so that a task seldom waits for the node.
_PIPE_BYTES = 256 << 10
_SET_SIZE = 1031  # F_SETPIPE_SZ of Linux
#: Characters that are told at once.
_MESSAGE_CHARS = 32 << 10
_TAIL_BYTES = 1 << 10
_TAIL_LINES = 5
#: A line without an end goes out when it has this size.
_LINE_BYTES = 64 << 10
#: A pipe that can be written takes so much at once without blocking.
_SAFE_BYTES = 512 if not hasattr(select, "PIPE_BUF") else select.PIPE_BUF

#: What becomes of output. It is passed on; kept in a log, by task; echoed, as lines of a job; or echoed,
#: as lines of a task.
NOTHING, LOG, ECHO, ECHO_TASKS = range(4)
#: Jobs whose output may be in the pipes at one time, and more.
_MOST_KINDS = 16
#: The stream of what both streams brought, in order.
BOTH = 0


class Part(NamedTuple):
    """What is to go out: of the task `serial`, or of its job; `stream` is `BOTH` for a log."""

    serial: int
    stream: int
    text: str


class _Stretch(NamedTuple):
    """What came of one stream behind one mark."""

    time: int
    stream: int
    serial: int
    data: bytes


class _Pipe:
    """One stream of the child."""

    def __init__(self, connection: Connection[Any, Any], stream: int, secret: bytes) -> None:
        self._connection = connection
        self.fd = connection.fileno()
        self.ended = False
        self._stream = stream
        self._secret = secret
        self._rest = b""
        #: Whose output comes next, and since when.
        self.serial = self.time = 0
        os.set_blocking(self.fd, False)
        if sys.platform == "linux":
            import fcntl  # noqa: PLC0415 - not on every system

            with contextlib.suppress(OSError):
                fcntl.fcntl(self.fd, _SET_SIZE, _PIPE_BYTES)

    def read(self, found: list[_Stretch]) -> int:
        """Read what is there; return how many bytes that was."""
        room = _TURN_BYTES
        while room > 0 and not self.ended:
            try:
                data = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                break
            self.ended = not data
            room -= len(data)
            self._cut(data, found)
            if len(data) < _CHUNK:
                break  # mostly that was all; if not, it can still be read
        return _TURN_BYTES - room

    def _cut(self, data: bytes, found: list[_Stretch]) -> None:
        data, self._rest = self._rest + data, b""
        if b"\0" not in data:
            self._add(data, found)
            return
        head, *marked = data.split(self._secret)
        # A mark may be cut off at the end of what has come.
        if marked and len(marked[-1]) < MARK_DIGITS and not self.ended:
            self._rest = self._secret + marked.pop()
        elif not self.ended:
            last = marked[-1] if marked else head
            at = last.rfind(b"\0", -len(self._secret))
            if at >= 0 and self._secret.startswith(last[at:]):
                self._rest = last[at:]
                if marked:
                    marked[-1] = last[:at]
                else:
                    head = last[:at]
        self._add(head, found)
        for part in marked:
            # A task that forges a mark gets what it names.
            with contextlib.suppress(ValueError):
                self.serial = int(part[:SERIAL_DIGITS], 16)
                self.time = int(part[SERIAL_DIGITS:MARK_DIGITS], 16)
            self._add(part[MARK_DIGITS:], found)
            if len(part) == MARK_DIGITS:
                found.append(_Stretch(self.time, self._stream, self.serial, b""))

    def _add(self, data: bytes, found: list[_Stretch]) -> None:
        if data:
            found.append(_Stretch(self.time, self._stream, self.serial, data))

    def close(self) -> None:
        self.ended = True
        self._connection.close()


class Capture:
    """What one child's tasks print.

    Args:
        pipes: those of its standard output and standard error.
        secret: the beginning of its marks.
    """

    def __init__(
        self, pipes: tuple[Connection[Any, Any], Connection[Any, Any]], secret: bytes
    ) -> None:
        self._pipes = [_Pipe(pipe, stream, secret) for stream, pipe in enumerate(pipes, 1)]
        self._poll = select.poll()
        for pipe in self._pipes:
            self._poll.register(pipe.fd, select.POLLIN)
        #: Serials, and the kind that tasks have from each on.
        self._kinds: deque[tuple[int, int]] = deque([(0, NOTHING)], _MOST_KINDS)
        self._log = TaskLog()
        #: Of each stream the task and the beginning of a line that has no end yet.
        self._lines: dict[int, tuple[int, bytes]] = {}
        self._later: list[_Stretch] = []
        self._tail = b""
        self._last_serial = 0
        #: The descriptors to wait for: none for a moment behind a read.
        self.fds = [pipe.fd for pipe in self._pipes]
        self._resume_at: float | None = None
        #: When `read` has something to do, if no descriptor tells. The pool asks many times a second.
        self.due = math.inf

    @property
    def waits(self) -> bool:
        """Whether something was read that has not gone out."""
        return bool(self._lines or self._later or self._log)

    def expect(self, serial: int, kind: int) -> None:
        """Tasks from this serial on are of another job; their output is of this kind."""
        self._kinds.append((serial, kind))

    def begin(self, serial: int) -> None:
        """From here on the output is that of the job of a task, which begins while the child is idle."""
        now = time.monotonic_ns()
        for pipe in self._pipes:
            pipe.serial, pipe.time = serial, now

    def has_more(self) -> bool:
        """Whether there is something to read."""
        return bool(self._poll.poll(0))

    def read(self, now: float) -> list[Part]:
        """Read what is there; return what is to go out."""
        # A stretch that began later may have others before it that were not there to be read.
        until = time.monotonic_ns()
        found, self._later = self._later, []
        size = max(pipe.read(found) for pipe in self._pipes)
        found.sort(key=_time)
        if size:
            self.fds = []
            self._resume_at = now + (_PAUSE_SECONDS if size < _MUCH_BYTES else _SHORT_PAUSE_SECONDS)
        elif self._resume_at is not None and now >= self._resume_at:
            self.fds = [pipe.fd for pipe in self._pipes if not pipe.ended]
            self._resume_at = None
        parts: list[Part] = []
        for place, stretch in enumerate(found):
            if stretch.time > until and not self._pipes[0].ended:
                self._later = found[place:]
                break
            parts += self._take(stretch)
        parts += _of_log(self._log.sent_on(now))
        self._set_due()
        return parts

    def _set_due(self) -> None:
        times = [at for at in (self._resume_at, self._log.due) if at is not None]
        self.due = min(times, default=math.inf)

    def _take(self, stretch: _Stretch) -> Iterator[Part]:
        kind = self._kind(stretch.serial)
        if stretch.serial != self._last_serial:
            self._last_serial, self._tail = stretch.serial, b""
        self._tail = (self._tail + stretch.data[-2 * _TAIL_BYTES :])[-2 * _TAIL_BYTES :]
        if kind == LOG:
            _pass_on(stretch.data)
            yield from _of_log(self._log.add(stretch.serial, stretch.data))
        elif kind == NOTHING:
            _pass_on(stretch.data)
        else:
            yield from self._add_lines(stretch, kind)

    def _add_lines(self, stretch: _Stretch, kind: int) -> Iterator[Part]:
        _, stream, serial, data = stretch
        before, line = self._lines.pop(stream, (serial, b""))
        if (
            line
            and before != serial
            and (kind == ECHO_TASKS or not self._is_one_job(before, serial))
        ):
            yield from self._told(before, stream, line)
            line = b""
        whole, end, rest = (line + data).rpartition(b"\n")
        yield from self._told(serial, stream, whole + end)
        if len(rest) >= _LINE_BYTES:
            yield from self._told(serial, stream, rest)
        elif rest:
            self._lines[stream] = serial, rest

    def _told(self, serial: int, stream: int, data: bytes) -> Iterator[Part]:
        if data:
            # A line of a task of its own ends there.
            if self._kind(serial) == ECHO_TASKS and len(data) < _LINE_BYTES and data[-1:] != b"\n":
                data += b"\n"
            for text in _texts(data):
                yield Part(serial, stream, text)

    def _kind(self, serial: int) -> int:
        return next((kind for first, kind in reversed(self._kinds) if first <= serial), NOTHING)

    def _is_one_job(self, one: int, other: int) -> bool:
        low, high = sorted((one, other))
        return not any(low < first <= high for first, _ in self._kinds)

    def finish(self, ended: int, *, idle: bool) -> list[Part]:
        """Tell all that waits of tasks up to the serial `ended`; `idle`: no other task has begun."""
        parts = list(_of_log(self._log.finish()))
        if idle:
            for stretch in self._later:
                parts += self._take(stretch)
            self._later = []
        for stream, (serial, line) in sorted(self._lines.items()):
            # Where a job's output is not cut by task, a line may be one of the task that runs.
            if idle or (serial <= ended and self._kind(serial) == ECHO_TASKS):
                parts += self._told(serial, stream, line)
                del self._lines[stream]
        self._set_due()
        return parts

    def last_words(self, serial: int) -> str:
        """The last lines that the task `serial` has printed, in one."""
        if serial != self._last_serial:
            return ""
        lines = self._tail.decode("utf-8", "replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()][-_TAIL_LINES:]
        return " | ".join(lines)[-_TAIL_BYTES:]

    def close(self) -> None:
        """Give the descriptors back."""
        for pipe in self._pipes:
            pipe.close()


def _time(stretch: _Stretch) -> int:
    return stretch.time


def _of_log(kept: Iterator[tuple[int, bytes]]) -> Iterator[Part]:
    return (Part(serial, BOTH, text) for serial, data in kept for text in _texts(data))


def _texts(data: bytes) -> Iterator[str]:
    """Yield output as texts that go into a message, cut behind a line where that can be."""
    text = data.decode("utf-8", "replace").replace("\0", "\ufffd")
    start = 0
    while start < len(text):
        end = start + _MESSAGE_CHARS
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        yield text[start:end]
        start = end


def _pass_on(data: bytes) -> None:
    """Write to the node's own standard error, as much as it takes without blocking the node."""
    try:
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        while data and poll.poll(0):
            data = data[os.write(2, data[:_SAFE_BYTES]) :]
    except OSError:
        return  # it is closed; the job's log has it
