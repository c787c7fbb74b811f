"""What makes shared objects and processes: ours, the standard library's, and other peers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from bench.sharing import peers


class System:
    """What makes objects and processes. `module` has the names of `multiprocessing`."""

    def __init__(self, module: Any, stack: ExitStack, processes: Any = multiprocessing) -> None:
        self.stack = stack
        self.module = module
        self.processes = processes

    def start(self, target: Callable[..., None], *args: Any) -> Any:
        """Start a process, on the other host if there are two."""
        return self._start(target, args)

    def start_here(self, target: Callable[..., None], *args: Any) -> Any:
        """Start a process on this host."""
        return self._start(target, args)

    def _start(self, target: Callable[..., None], args: tuple[Any, ...], **options: Any) -> Any:
        process = self.processes.Process(target=target, args=args, **options)
        process.start()
        self.stack.callback(process.join, 10)
        return process


class Ours(System):
    """Ours: the root is on host `a`, and `b` is the other."""

    def start(self, target: Callable[..., None], *args: Any) -> Any:
        """Start a process on the other host."""
        return self._start(target, args, node="b")

    def start_here(self, target: Callable[..., None], *args: Any) -> Any:
        """Start a process on the root's host."""
        return self._start(target, args, node="a")


def _ours(stack: ExitStack) -> System:
    import manyhands.multiprocessing as mp

    return Ours(mp, stack, mp)


def _standard(stack: ExitStack) -> System:
    return System(multiprocessing, stack)


def _manager(stack: ExitStack) -> System:
    return System(stack.enter_context(multiprocessing.Manager()), stack)


def _redis(stack: ExitStack) -> System:
    return System(stack.enter_context(peers.redis()), stack)


def _bare(stack: ExitStack) -> System:
    return System(stack.enter_context(peers.bare()), stack)


SYSTEMS: dict[str, Callable[[ExitStack], System]] = {
    "manyhands": _ours,
    "multiprocessing": _standard,
    "Manager": _manager,
    "Redis": _redis,
    "bare round trip": _bare,
}
