"""What tasks print, on the child's side: the standard streams lead into pipes that the node reads.

For a client's terminal each has a pipe of its own. For a log both lead into one, in perfect order.

So whatever writes to the descriptors is heard: Python, C code, the programs that a task starts. And
what a task wrote before it died is there.

*Marks* in the pipes tell the node whose output follows. A mark is a secret of this child, the serial of
a task, and the time. A mark costs a system call and wakes the node, so there are few. Where the node
wants to know each task's output, there is one before each task. Else there is one at the beginning of
another job's tasks, if the node asks for it. And there is one where Python begins to write to the other
stream, so that the node can put both in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from manyhands_worker.host.process_snapshot import file_of
from manyhands_worker.ipc.control_block import CLAIM

#: Digits of a serial, of a time, and of a mark behind its secret.
SERIAL_DIGITS = TIME_DIGITS = 16
MARK_DIGITS = SERIAL_DIGITS + TIME_DIGITS
#: Standard output, standard error.
_STREAMS = 2
#: Of C: line by line.
_IOLBF = 1


def new_secret() -> bytes:
    """The beginning of a mark, which no task prints by chance. It has one zero byte, its first."""
    return b"\0" + os.urandom(16).hex().encode()


def flush_streams() -> None:
    """Have what Python keeps back of this process's output written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001 - a task may have closed or replaced it
            continue


class OutputRedirect:
    """Leads standard output and error into the pipes, or to where they went at first.

    Args:
        pipes: those of standard output and of standard error.
        secret: the beginning of a mark.
        control: the child's control block.
        discard: lead them nowhere instead of to where they went at first.
    """

    def __init__(
        self,
        pipes: tuple[Connection[Any, Any], Connection[Any, Any]],
        secret: bytes,
        control: memoryview,
        *,
        discard: bool = False,
    ) -> None:
        self._pipes = pipes
        self._secret = secret
        self._control = control
        if discard:
            _discard_output()
        #: Where the streams go to now, if into pipes; and copies of where they went to at first.
        self._led: tuple[Connection[Any, Any], ...] = ()
        #: Whether they do, and each into its own.
        self._turned = False, False
        self._first = (-1, -1)
        self._home = [file_of(number) for number in (0, 1, 2)]
        #: The stream that Python wrote to last; None: nothing may be written without a mark.
        self.last: int | None = None

    def take_streams(self) -> None:
        """Have Python and C write to the standard descriptors as this needs it, from now on."""
        flush_streams()
        sys.stdout, sys.stderr = self._stream(1), self._stream(2)
        vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)
        _print_lines_of_c()

    def _stream(self, number: int) -> io.TextIOWrapper:
        """Return Python's stream over a standard descriptor. It writes each line at once."""
        errors = "strict" if number == 1 else "backslashreplace"
        buffered = io.BufferedWriter(_Marking(number, self))
        return io.TextIOWrapper(buffered, "utf-8", errors, line_buffering=True)

    def descriptors(self) -> list[int]:
        """The descriptors of the pipes."""
        return [pipe.fileno() for pipe in self._pipes]

    def leads(self) -> bool:
        """Whether the standard streams lead where they were led."""
        out = [file_of(pipe.fileno()) for pipe in self._led]
        return [file_of(number) for number in (0, 1, 2)] == [
            self._home[0],
            *(out or self._home[1:]),
        ]

    @property
    def parts(self) -> bool:
        """Whether the streams lead into a pipe each."""
        return len(set(self._led)) == _STREAMS

    def turn(self, *, on: bool, apart: bool) -> None:
        """Lead the output into the pipes, or not any more; `apart`: each stream into its own.

        Raises:
            OSError: a task has closed the descriptors.
        """
        wanted = on, on and apart
        if wanted == self._turned:
            return
        out, error = self._pipes
        led = ((out, error) if apart else (out, out)) if on else ()
        flush_streams()
        self.last = None
        if not self._led:
            self._first = os.dup(1), os.dup(2)
        for number, pipe in enumerate(led, 1):
            os.dup2(pipe.fileno(), number)
        if not led:
            for number, fd in enumerate(self._first, 1):
                os.dup2(fd, number)
                os.close(fd)
        self._led, self._turned = led, wanted

    def begin(self, serial: int) -> None:
        """From here on, the output is that of the task `serial`, or of its job."""
        flush_streams()
        self.last = None
        mark = self._mark(serial)
        for pipe in self._pipes:
            os.write(pipe.fileno(), mark)

    def switch(self, number: int) -> bytes:
        """Return the mark to write before what Python writes to a stream, if there is one."""
        self.last = number
        return self._mark(self._control[CLAIM])

    def _mark(self, serial: int) -> bytes:
        return self._secret + b"%0*x%0*x" % (
            SERIAL_DIGITS,
            serial,
            TIME_DIGITS,
            time.monotonic_ns(),
        )


class _Marking(io.FileIO):
    """A standard descriptor as Python writes to it: with a mark if it wrote to the other one before."""

    def __init__(self, number: int, redirect: OutputRedirect) -> None:
        super().__init__(number, "wb", closefd=False)
        self._number = number
        self._redirect = redirect

    def write(self, data: Any, /) -> int:
        redirect = self._redirect
        if redirect.last == self._number or not redirect.parts:
            return super().write(data)
        mark = redirect.switch(self._number)
        written = super().write(mark + data)
        if written < len(mark):  # not to be told to a caller
            raise OSError("a mark was cut")
        return written - len(mark)


def _discard_output() -> None:
    """Have what is printed go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _print_lines_of_c() -> None:
    """Have C write each line at once, as on a terminal: else what it prints stays in its buffer."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        library = ctypes.CDLL(None)
        stream = ctypes.c_void_p.in_dll(
            library, "stdout" if sys.platform == "linux" else "__stdoutp"
        )
        library.setvbuf(stream, None, _IOLBF, ctypes.c_size_t(0))
