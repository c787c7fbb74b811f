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
#: Lines of /proc/PID/task/TID/status that name signals which wait, or whose handler runs.
_MASKS = (b"SigPnd:", b"ShdPnd:", b"SigBlk:")


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

    def ask(self, pid: int, sentinel: int, number: int) -> None:
        """Have a child write its stacks anew; one that is dead does not."""
        self.read()
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

    @staticmethod
    def is_writing(pid: int) -> bool:
        """Return whether a child that has begun to write still does so; only Linux tells."""
        if sys.platform != "linux":
            return False
        try:
            return any(_is_asked(task) for task in Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            return False

    def close(self) -> None:
        """Give the descriptor back."""
        self._pipe.close()


def _is_asked(task: Path) -> bool:
    """Return whether a signal of ours waits for a thread, or its handler runs in it."""
    lines = (task / "status").read_bytes().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(_MASKS)]
    return any(mask & _ASKING for mask in masks)
