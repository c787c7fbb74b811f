"""What tasks have printed, on this process's own `sys.stdout` and `sys.stderr`.

The I/O thread writes what a stream takes without blocking. A thread of its own writes the rest, to a
slow terminal or pipe. The I/O thread waits for it, so that a task's lines are there before its result,
but not for ever. Once that takes `PATIENCE_SECONDS`, results no longer wait until all has been written.
What cannot be written in time is kept up to `WAITING_CHARS`. The rest is dropped, and one line says how
much that was.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable

from manyhands._io import output_streams
from manyhands._io.output_streams import ERROR
from manyhands_shared.conditions import Condition
from manyhands_shared.processes.thread_start import start
from manyhands_shared.protocol.messages import PrintedGroup
from manyhands_shared.text import LAYOUT, amount, printable

#: The I/O thread waits this time for what it has to show.
PATIENCE_SECONDS = 5.0
#: Characters that wait to be written.
WAITING_CHARS = 8 << 20
#: Of lines that were left out, the user is told when none were for this time.
CALM_SECONDS = 0.5

_printers: weakref.WeakSet[Printer] = weakref.WeakSet()


class Printer:
    """Writes lines. `show`, `tick` and `close` are for the I/O thread."""

    def __init__(self) -> None:
        #: Have both streams come to standard error: standard output is for something else.
        self.to_stderr = False
        self._changed = Condition()
        self._waiting: deque[tuple[int, str]] = deque()
        self._nbytes = 0
        self._is_writing = False
        self._is_stuck = False
        self._is_closed = False
        self._thread: threading.Thread | None = None
        #: Lines that were left out and are not told of, and when to tell.
        self._lost = 0
        self.deadline: float | None = None

    def show(
        self,
        node: str,
        groups: Iterable[PrintedGroup],
        now: float,
        rules: Callable[[str], tuple[bool, bool]],
    ) -> None:
        """Write what tasks have printed on a node.

        Args:
            node: its name.
            groups: what they printed.
            now: the time.
            rules: whether lines of a job are shown with a prefix, and whether the job is a safe one.
        """
        lost = 0
        pieces: list[tuple[int, str]] = []
        for group in groups:
            lost += group.lost
            text = group.text
            has_prefix, is_safe = rules(group.job)
            if is_safe:
                text = printable(text, keep=LAYOUT)
            if has_prefix and text:
                text = _prefixed(text, f"[{printable(node)} task {group.index}] ")
            if text:
                pieces.append((ERROR if self.to_stderr else group.stream, text))
        if pieces:
            lost += self._put(pieces)
        if lost:
            self._lost += lost
            self.deadline = now + CALM_SECONDS

    def tick(self, now: float) -> None:
        """Tell of lines that were left out, if that is over."""
        if self.deadline is not None and now >= self.deadline:
            self._tell()

    def note(self, line: str) -> None:
        """Write a line of this library's own to standard error, and do not wait. For any thread."""
        self._put([(ERROR, line)], wait=False)

    def close(self) -> None:
        """End, when all is written."""
        self._tell()
        with self._changed.lock:
            self._is_closed = True
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until all is written. For any thread."""
        thread = self._thread
        if thread is not None:
            with self._changed.lock:
                self._changed.wait_for(lambda: not (self._waiting or self._is_writing))

    def _tell(self) -> None:
        self.deadline = None
        if self._lost:
            lines, self._lost = self._lost, 0
            text = (
                f"manyhands: left out here {amount(lines, 'line')} that tasks printed: output came "
                "faster than it can be shown\n"
            )
            self._lost += self._put([(ERROR, text)])

    def _put(self, pieces: list[tuple[int, str]], *, wait: bool = True) -> int:
        """Have pieces written; `wait` a while for that. Return how many lines were dropped."""
        if wait and not (self._waiting or self._is_writing):
            pieces = _write_at_once(pieces)
        if not pieces:
            return 0
        with self._changed.lock:
            if self._is_closed:
                return 0
            size = sum(len(text) for _, text in pieces)
            if self._nbytes and self._nbytes + size > WAITING_CHARS:
                return sum(text.count("\n") for _, text in pieces)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="manyhands-printer", daemon=True)
                if not start(thread):
                    return sum(text.count("\n") for _, text in pieces)
                self._thread = thread
                _printers.add(self)
            self._waiting.extend(pieces)
            self._nbytes += size
            self._changed.notify_all()
            if wait and not self._is_stuck:
                self._is_stuck = not self._changed.wait_for(
                    lambda: not (self._waiting or self._is_writing), PATIENCE_SECONDS
                )
            return 0

    def _run(self) -> None:
        while True:
            with self._changed.lock:
                self._is_writing = False
                if not self._waiting:
                    self._is_stuck = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                stream, text = self._waiting.popleft()
                while self._waiting and self._waiting[0][0] == stream:
                    text += self._waiting.popleft()[1]
                self._nbytes = sum(len(text) for _, text in self._waiting)
                self._is_writing = True
            output_streams.write(stream, text)


def _write_at_once(pieces: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Write what streams take without blocking; return the rest."""
    for place, (stream, text) in enumerate(pieces):
        if rest := output_streams.write_at_once(stream, text):
            return [(stream, rest), *pieces[place + 1 :]]
    return []


def _prefixed(text: str, prefix: str) -> str:
    lines = text.split("\n")
    last = lines.pop()
    return "".join(f"{prefix}{line}\n" for line in lines) + (f"{prefix}{last}" if last else "")


def _finish_all() -> None:
    for printer in list(_printers):
        printer.finish()


# The printers' threads end with the interpreter, whatever they have left to write.
atexit.register(_finish_all)
# A forked child has none of these threads: it must not wait for one.
os.register_at_fork(after_in_child=_printers.clear)
