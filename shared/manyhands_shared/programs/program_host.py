"""A pool child while it runs programs: what it keeps from one to the next.

The child ignores signals to its group: ``kill 0`` in a script is not to end the child as well. And it
adopts orphans (a *subreaper*), so that it finds what a program leaves running, also in a session of its
own. To set this up takes 40 µs, as does a pair of scratch files. So the child does so once, and takes
it back before it runs tasks of another function.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from manyhands_shared.coordination import pool_child
from manyhands_shared.processes.lifecycle import adopt_orphans
from manyhands_shared.programs.scratch_file import ScratchFile

#: What a program may send its whole group.
_GROUP_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)


class ProgramHost:
    """This process, from the first program to the next task of another kind."""

    #: The one that there is now.
    current: ProgramHost | None = None

    def __init__(self) -> None:
        self.stdout = ScratchFile()
        self.stderr = ScratchFile()
        self._handlers: dict[signal.Signals, Any] = {
            number: signal.signal(number, _ignore) for number in _GROUP_SIGNALS
        }
        adopt_orphans(on=True)
        #: Whether it had no children before: then all that are left by a program are the program's.
        self._is_alone = not _has_children()
        #: This process's own directory; open from the first program that runs in another.
        self._home = -1

    @classmethod
    def enter(cls) -> ProgramHost:
        """Return the one that there is, or begin."""
        if cls.current is None:
            cls.current = cls()
            pool_child.leave_function = cls.leave
        return cls.current

    @classmethod
    def leave(cls) -> None:
        """Take all back."""
        host, cls.current = cls.current, None
        if host is None:
            return
        host.stdout.close()
        host.stderr.close()
        if host._home >= 0:
            os.close(host._home)
        adopt_orphans(on=False)
        for number, handler in host._handlers.items():
            signal.signal(number, handler)

    def go_to(self, directory: str) -> None:
        """Work in another directory, until `go_home`.

        Raises:
            OSError, ValueError: that cannot be.
        """
        if self._home < 0:
            self._home = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        os.chdir(directory)

    def go_home(self) -> None:
        """Work in this process's own directory again."""
        if self._home >= 0:
            os.fchdir(self._home)

    def others(self) -> set[int]:
        """Children that are here before a program starts."""
        return set() if self._is_alone else _children()

    def kill_all_but(self, others: set[int]) -> None:
        """Kill every process below this one but `others`: the orphans of each come here in turn."""
        if not _has_children():
            return
        while left := _children() - others:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            for pid in left:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _ignore(*_: object) -> None:
    """A handler instead of SIG_IGN, which the program would inherit."""


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children() -> set[int]:
    with contextlib.suppress(OSError, ValueError):
        return {
            int(pid)
            for thread in Path("/proc/self/task").iterdir()
            for pid in (thread / "children").read_text(encoding="ascii").split()
        }
    return set()
