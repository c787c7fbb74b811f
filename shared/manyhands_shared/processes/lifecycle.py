"""What processes owe each other at the beginning and at the end of their lives."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STANDARD_STREAMS = ("stdin", "stdout", "stderr")


def begin() -> None:
    """Undo what this process may have inherited and cannot work with. Call it before anything is opened.

    A parent hands down its blocked signals and those that it ignores: without SIGCHLD no death of a
    child is noticed. A standard descriptor that is closed there is closed here as well. The next
    socket or pipe would get its number, and with it what libraries print.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, name in enumerate(_STANDARD_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
            if getattr(sys, name) is None:
                mode = "r" if name == "stdin" else "w"
                setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def above_standard(descriptor: int) -> int:
    """Return the descriptor, or one in its place that is no standard one. The old one is closed then."""
    if descriptor > 2:
        return descriptor
    higher = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return higher


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, however that happens (Linux).

    Elsewhere than on Linux the caller has to look at `os.getppid()` itself.

    Args:
        parent: the pid that started this process. If that process is gone already, this one ends now.
            None: do not check.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def adopt_orphans(*, on: bool) -> None:
    """Have orphans below this process become its children, or not (Linux): a *subreaper*."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
