"""What processes on other hosts print, on the terminal of the root: whole lines, each in one write."""

from __future__ import annotations

import contextlib
import os
import sys
import time

from manyhands_shared.protocol.messages.coordination import NOTE_AT, OutputTaken, ProcessOutput

#: How long a line may wait for its end.
_LINE_SECONDS = 0.1
_Key = tuple[bytes, int]


class Printer:
    """Gathers lines and prints them. On the channel's thread alone."""

    def __init__(self) -> None:
        #: How far each stream has come.
        self._until: dict[_Key, int] = {}
        #: Lines without an end, and when each is printed all the same.
        self._parts: dict[_Key, bytes] = {}
        self._due: dict[_Key, float] = {}

    def deadline(self) -> float | None:
        """Return when `tick` has something to do."""
        return min(self._due.values(), default=None)

    def receive(self, message: ProcessOutput) -> OutputTaken | None:
        """Print what can be printed; return the receipt."""
        data = b"".join(
            b"".join(body) if isinstance(body, tuple) else body for body in message.bodies
        )
        if message.at == NOTE_AT:
            _write(message.stream, data)
            return None
        key = message.member, message.stream
        until = self._until.get(key, message.at)
        end = message.at + len(data)
        if end > until:
            # The rest has come before.
            self._add(key, data[max(0, until - message.at) :])
            self._until[key] = until = end
        return OutputTaken(message.member, message.stream, until)

    def finish(self, member: bytes) -> None:
        """Print what a process that has ended left without an end of line."""
        for stream in (1, 2):
            self._print((member, stream))

    def tick(self) -> None:
        """Print lines that have waited long enough."""
        if self._due:
            now = time.monotonic()
            for key in [key for key, due in self._due.items() if due <= now]:
                self._print(key)

    def _add(self, key: _Key, data: bytes) -> None:
        whole, newline, rest = (self._parts.pop(key, b"") + data).rpartition(b"\n")
        if newline:
            _write(key[1], whole + newline)
        if rest:
            self._parts[key] = rest
            self._due.setdefault(key, time.monotonic() + _LINE_SECONDS)
        else:
            self._due.pop(key, None)

    def _print(self, key: _Key) -> None:
        self._due.pop(key, None)
        if part := self._parts.pop(key, b""):
            _write(key[1], part)


def _write(stream: int, data: bytes) -> None:
    """Write to what is standard output (1) or standard error (2) of this process now."""
    file = sys.stdout if stream == 1 else sys.stderr
    original = sys.__stdout__ if stream == 1 else sys.__stderr__
    # A stream that cannot be written to loses what is printed, as it would the root's own.
    with contextlib.suppress(OSError, ValueError):
        if file is None or file is original:
            # What this process has printed itself and not flushed may be half a line: it stays.
            view = memoryview(data)
            while view:
                view = view[os.write(stream, view) :]
        else:
            file.write(data.decode("utf-8", "replace"))
            file.flush()
