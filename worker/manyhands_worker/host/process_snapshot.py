"""What a child needs to serve the next task, and a task may have taken away.

A forked process is its tasks' own: one may lower its limits, change its root or its user, close its
descriptors, block its signals. The tasks after it, often of other users, would all fail. So the child
looks at itself now and then, and one that has changed is replaced.

What a task may rightly leave behind is not looked at: environment, modules, threads, another working
directory that exists, handlers of signals.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

_LIMITS = tuple(
    (name, getattr(resource, name))
    for name in (
        "RLIMIT_AS",
        "RLIMIT_CORE",
        "RLIMIT_CPU",
        "RLIMIT_DATA",
        "RLIMIT_FSIZE",
        "RLIMIT_MEMLOCK",
        "RLIMIT_NOFILE",
        "RLIMIT_NPROC",
        "RLIMIT_STACK",
    )
    if hasattr(resource, name)
)
#: Signals that, once ignored, break programs which a task starts, or the end of the child.
_SIGNALS = (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP)
#: Descriptors that must be left below the limit.
_SPARE_DESCRIPTORS = 16

#: What was looked at, in words of what a task did, and what was there.
_Part = tuple[str, Callable[[], Any]]


class Condition:
    """How a process was at a time, to be compared with how it is.

    Args:
        descriptors: those that must stay as they are.
        streams: whether standard input, output and error lead where this process has led them.
    """

    def __init__(self, descriptors: list[int], streams: Callable[[], bool]) -> None:
        parts: list[_Part] = [
            ("closed descriptors of its process", lambda: list(map(file_of, descriptors))),
            ("closed or replaced its standard streams", streams),
            ("closed sys.stdout or sys.stderr", _open_streams),
            ("changed the user or group", _identity),
            ("changed the root directory", lambda: file_of("/")),
            ("removed the working directory", _has_directory),
            ("changed the umask", _umask),
            ("blocked signals", lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            ("had signals ignored", _ignored),
            ("left a timer running", lambda: signal.getitimer(signal.ITIMER_REAL)[0] > 0),
            ("lowered the recursion limit", lambda: min(1000, sys.getrecursionlimit())),
            ("changed the priority", lambda: os.getpriority(os.PRIO_PROCESS, 0)),
        ]
        parts += [
            (f"changed the limit {name}", lambda number=number: resource.getrlimit(number))  # type: ignore[misc]
            for name, number in _LIMITS
        ]
        if hasattr(os, "sched_getaffinity"):
            parts.append(("changed the processors it runs on", lambda: os.sched_getaffinity(0)))
        self._parts = [*parts, ("left no descriptor free", _has_descriptor)]
        self.renew()

    def renew(self) -> None:
        """From now on, how it is now counts as right."""
        self._right = [_look(part) for _, part in self._parts]

    def changed(self) -> str:
        """What a task has done that it must not, in words that follow on "a task"; empty: nothing."""
        for (words, part), right in zip(self._parts, self._right, strict=True):
            if _look(part) != right:
                return words
        return ""


def _look(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except Exception as error:  # noqa: BLE001 - whatever stands in the way is what has changed
        return type(error)


def file_of(where: int | str) -> tuple[int, int] | None:
    """What tells an open descriptor's or a path's file from all others; None if there is none."""
    try:
        found = os.stat(where)  # noqa: PTH116 - a descriptor has no path; and quicker
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _open_streams() -> list[bool]:
    return [getattr(stream, "closed", True) for stream in (sys.stdout, sys.stderr)]


def _identity() -> tuple[Any, ...]:
    return os.getresuid(), os.getresgid(), os.getgroups()


def _has_directory() -> bool:
    return os.stat(".").st_nlink > 0  # noqa: PTH116 - quicker


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _ignored() -> list[bool]:
    return [signal.getsignal(number) is signal.SIG_IGN for number in _SIGNALS]


def _has_descriptor() -> bool:
    """Whether some are free: the system gives the lowest free number."""
    fd = os.dup(0)
    os.close(fd)
    return fd + _SPARE_DESCRIPTORS < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
