"""`Pool` on the program's own cluster: functions and arguments may hold whatever the program shares."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from multiprocessing.pool import ThreadPool
from typing import Any

from manyhands import pool as _pool
from manyhands._results.pool_results import ApplyResult, MapResult
from manyhands._submit.calls import Calls
from manyhands.multiprocessing._processes import ends, membership
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.protocol.messages import Function

AsyncResult = ApplyResult

__all__ = ["ApplyResult", "AsyncResult", "MapResult", "Pool", "ThreadPool"]


class _Calls(Calls):
    """Functions and initializers are loaded by many children: so are the ends of pipes in them."""

    def pack(self, function: Callable[..., Any], wrapper: Any = None) -> Function:
        """See `Calls`."""
        with ends.reusable():
            return super().pack(function, wrapper)


def _sync_writes() -> None:
    """Have writes to shared memory leave and come, if the program has some."""
    name = "manyhands.multiprocessing._memory.segments"
    if name in sys.modules:
        # Another thread may be loading it: that is waited for.
        import_module(name).sync_writes()


class Pool(_pool.Pool):
    """`manyhands.Pool` on the cluster of this program.

    Functions, arguments and what `initializer` is given may hold locks, queues, ends of pipes, and
    proxies of managers. A child becomes a member of the program when it loads the first one.

    Args:
        processes: how many tasks run at once; `None` is no limit.
        initializer: called with `initargs`: in one child at once, in others before their first task.
        initargs: its arguments.
        maxtasksperchild: the node replaces a child after that many tasks.
        context: there is one kind of contexts.

    Raises:
        ManyhandsError: there is no cluster.
    """

    _calls_type = _Calls
    _package = "multiprocessing"
    #: What tasks have written is there before their results are.
    _before_get = staticmethod(_sync_writes)

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        address, key_file = membership.current().where
        super().__init__(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            address=address or None,
            key_file=key_file or None,
        )
        if context is not None:
            self._ctx = context
        if initializer is not None:
            # The standard library's is called though no task comes. What it raises, later calls raise.
            with contextlib.suppress(ManyhandsError):
                self._calls.submit(bool, (), {})

    def _check_running(self) -> None:
        super()._check_running()
        # What this process has written is there before the tasks are.
        _sync_writes()


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("multiprocessing.pool"), name)
