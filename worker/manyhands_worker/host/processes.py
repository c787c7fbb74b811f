"""What the node and its children ask of the operating system about processes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

if sys.platform == "linux":
    from multiprocessing.context import ForkServerProcess as BaseProcess
else:
    from multiprocessing.context import SpawnProcess as BaseProcess

__all__ = ["BaseProcess"]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Libraries that would start one thread per core in every child.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def let_fork_server_go() -> None:
    """Close the pipe through which the fork server counts those who need it.

    Each child inherits it, so a child in mid-task would keep the fork server, and with it every
    other child, after the node has died.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver  # noqa: PLC0415 - Linux alone

        # There is no public name for it; where it is called otherwise, `die_with_parent` is enough.
        server: Any = forkserver._forkserver
        pipe = getattr(server, "_forkserver_alive_fd", None)
        if isinstance(pipe, int):
            server._forkserver_alive_fd = None
            with contextlib.suppress(OSError):
                os.close(pipe)


def node_is_gone() -> bool:
    """Whether the process that started this one (not the fork server between) has died."""
    parent = parent_process()
    return parent is not None and bool(wait([parent.sentinel], timeout=0))


def lead_group() -> None:
    """Make this process the leader of a group, so that its own children can be killed with it."""
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)


def kill_group(leader: int) -> None:
    """SIGKILL a process and everything in the group that it leads."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(leader, signal.SIGKILL)
    kill_orphans(leader)


def kill_orphans(leader: int) -> None:
    """SIGKILL what is left of the group of a process that has died already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def describe_exit(code: int | None) -> str:
    """How a process ended, for people: its signal or its exit code."""
    if code is None or code == 255:
        return "died of an unknown cause"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "signal"
    return f"died of {name} ({-code})"


def reap(process: BaseProcess) -> str:
    """Release a dead process, and kill what is left of its group; return how it ended, for people."""
    process.join()
    how = describe_exit(process.exitcode)
    if process.pid is not None:
        # If it was the fork server that died, this one may live on without a parent.
        kill_group(process.pid)
    process.close()
    return how


def limit_threads(threads: int) -> None:
    """Keep numeric libraries of this process to `threads` threads, unless the user said otherwise."""
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))


def open_statm(pid: int) -> int:
    """A descriptor from which `read_rss` reads; -1 where there is no /proc."""
    try:
        return os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def read_rss(statm: int) -> int:
    """Resident bytes of the process behind `statm`; 0 if it is not known any more."""
    try:
        return int(os.pread(statm, 128, 0).split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
