"""The Python stacks of a child, which it writes to a pipe when the node sends it a signal.

`faulthandler` handles the signal in C, without the interpreter. So it also works within a call of C code
that does not return, and needs no other process's rights. The pipe takes 64 KiB and does not block: what
is beyond that is dropped, and a child never waits for the node.

The signals are those that programs hardly ever use. On Linux they are two real-time signals near the
last, elsewhere one that does nothing unless it is handled.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

_CHUNK = 1 << 16
#: Asks for the stacks of all threads, and for that of the thread which gets the signal: the main one.
if sys.platform == "linux":
    ALL_THREADS, MAIN_THREAD = signal.SIGRTMAX - 3, signal.SIGRTMAX - 4
else:
    ALL_THREADS = MAIN_THREAD = int(signal.SIGINFO)
_ASKING = (1 << (ALL_THREADS - 1)) | (1 << (MAIN_THREAD - 1))
#: Lines of /proc/PID/task/TID/status that name signals which wait; which are blocked, as while their
#: handler runs.
_PENDING = (b"SigPnd:", b"ShdPnd:")
_BLOCKED = (b"SigBlk:",)


def write_stacks_to(pipe: Connection[Any, Any]) -> None:
    """Have this process write its stacks to a pipe whenever it gets one of the signals."""
    os.set_blocking(pipe.fileno(), False)
    for number in {MAIN_THREAD, ALL_THREADS}:
        every = number == ALL_THREADS
        faulthandler.register(number, pipe.fileno(), all_threads=every, chain=False)


class StackPipe:
    """The node's end.

    Args:
        pipe: what the child writes to.
    """

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe = pipe
        os.set_blocking(pipe.fileno(), False)
        #: Threads that blocked the signals before the child was asked, as helpers of libraries do.
        self._deaf: set[str] = set()

    def ask(self, pid: int, sentinel: int, number: int) -> None:
        """Have a child write its stacks anew; one that is dead does not."""
        self.read()
        if number == ALL_THREADS:
            self._deaf = {task.name for task in _tasks(pid) if _has(task, _BLOCKED)}
        if not wait([sentinel], 0):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def read(self) -> bytes:
        """Return what the child has written since the last time."""
        parts = []
        with contextlib.suppress(OSError):
            while part := os.read(self._pipe.fileno(), _CHUNK):
                parts.append(part)
        return b"".join(parts)

    def is_writing(self, pid: int) -> bool:
        """Return whether a child that has begun to write still does so; only Linux tells."""
        return any(
            _has(task, _PENDING) or (task.name not in self._deaf and _has(task, _BLOCKED))
            for task in _tasks(pid)
        )

    def close(self) -> None:
        """Give the descriptor back."""
        self._pipe.close()


def _tasks(pid: int) -> list[Path]:
    """The directories of a process's threads; none where the system has no such thing."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _has(task: Path, names: tuple[bytes, ...]) -> bool:
    """Return whether a signal of ours is in one of these masks of a thread; not if that has ended."""
    try:
        lines = (task / "status").read_bytes().splitlines()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(names)]
    return any(mask & _ASKING for mask in masks)
