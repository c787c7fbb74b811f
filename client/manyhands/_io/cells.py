"""Cells of a notebook, and of IPython: one that is interrupted cancels the tasks that it has submitted.

What runs for a notebook would otherwise run on, and keep later cells waiting. Tasks of cells before, and
durable jobs, are left alone. What other threads submit while the cell runs counts as the cell's.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol


class _Jobs(Protocol):
    """What a session's registry of jobs does about cells, on the I/O thread."""

    def begin_cell(self) -> None:
        """What is submitted from now on is of another cell."""

    def cancel_cell(self) -> None:
        """Cancel what was submitted since."""


class _Session(Protocol):
    @property
    def registry(self) -> _Jobs: ...

    def call(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have the I/O thread call this, behind everything that was queued before."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(sessions: Iterable[_Session]) -> None:
    """Hear of the cells of the shell that runs in this process, if one does."""
    get_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if get_shell is None else get_shell()
    if shell is not None and shell not in _watched:
        _watched.add(shell)
        # The cell that runs just now is not told of any more. All that is submitted in it comes later.
        shell.events.register("pre_run_cell", partial(_begin, sessions))
        shell.events.register("post_run_cell", partial(_end, sessions))


def _begin(sessions: Iterable[_Session], _info: object) -> None:
    for session in list(sessions):
        session.call(session.registry.begin_cell)


def _end(sessions: Iterable[_Session], result: Any) -> None:
    if isinstance(result.error_in_exec, KeyboardInterrupt):
        for session in list(sessions):
            session.call(session.registry.cancel_cell)
