"""Contexts, start methods, and other small things of `multiprocessing`.

Every start method of the standard library is accepted, and all mean the same. A process has what
travels with it, as with *spawn*, and globals as they were when it was started.
"""

from __future__ import annotations

import functools
import multiprocessing.context
import os
from collections.abc import Callable
from importlib import import_module
from multiprocessing.context import BaseContext
from typing import Any

from manyhands.multiprocessing.process import Process

_METHODS = ("spawn", "fork", "forkserver")
_MODULE = "manyhands.multiprocessing"


class _Method:
    """What the program has asked for: a start method, and modules that its processes load."""

    chosen: str | None = None
    preload: list[str] = []  # noqa: RUF012 - one for the process


_method = _Method()


class Context(BaseContext):
    """An object with the names of `manyhands.multiprocessing`.

    Args:
        method: the start method by which it is called.
    """

    Process = Process
    _name = "manyhands"

    def __init__(self, method: str | None = None) -> None:
        self._method = method

    def get_context(self, method: str | None = None) -> Any:
        """Return a context: this one, unless another start method is named."""
        return self if method is None else get_context(method)

    def get_all_start_methods(self) -> list[str]:
        """Return the start methods, the default one first."""
        return get_all_start_methods()

    def get_start_method(self, allow_none: bool = False) -> Any:
        """Return the name of the start method."""
        return self._method or get_start_method(allow_none)

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Refuse: a context has one start method."""
        if self._method is None:
            set_start_method(method, force)
        else:
            raise ValueError("cannot set start method of concrete context")


def _forward(name: str) -> Callable[..., Any]:
    @functools.wraps(getattr(BaseContext, name))
    def call(_: Context, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(_MODULE), name)(*args, **kwargs)

    return call


for _name in (
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Manager",
    "Pipe",
    "Pool",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "Semaphore",
    "SimpleQueue",
    "Value",
    "allow_connection_pickling",
    "cpu_count",
    "freeze_support",
    "set_executable",
    "set_forkserver_preload",
):
    setattr(Context, _name, _forward(_name))

_default = Context()


class SpawnProcess(Process):
    """A process of the context that is called *spawn*."""

    _method = "spawn"


class ForkProcess(Process):
    """A process of the context that is called *fork*."""

    _method = "fork"


class ForkServerProcess(Process):
    """A process of the context that is called *forkserver*."""

    _method = "forkserver"


class SpawnContext(Context):
    """The context that is called *spawn*."""

    Process = SpawnProcess


class ForkContext(Context):
    """The context that is called *fork*."""

    Process = ForkProcess


class ForkServerContext(Context):
    """The context that is called *forkserver*."""

    Process = ForkServerProcess


_concrete = {
    "spawn": SpawnContext("spawn"),
    "fork": ForkContext("fork"),
    "forkserver": ForkServerContext("forkserver"),
}


def get_context(method: str | None = None) -> Any:
    """Return an object with the names of `manyhands.multiprocessing`.

    Raises:
        ValueError: the standard library has no such start method.
    """
    if method is None:
        method = _method.chosen
    if method is None:
        return _default
    if method not in _METHODS:
        raise ValueError(f"cannot find context for {method!r}")
    return _concrete[method]


def get_start_method(allow_none: bool = False) -> str | None:
    """Return the start method that was set; ``spawn`` if none was, or None where that is allowed."""
    if _method.chosen is None and not allow_none:
        return "spawn"
    return _method.chosen


def set_start_method(method: str | None, force: bool = False) -> None:
    """Remember a start method. They all mean the same here.

    Raises:
        RuntimeError: one was set before.
        ValueError: the standard library has no such start method.
    """
    if _method.chosen is not None and not force:
        raise RuntimeError("context has already been set")
    if method is not None and method not in _METHODS:
        raise ValueError(f"cannot find context for {method!r}")
    _method.chosen = method


def get_all_start_methods() -> list[str]:
    """Return the start methods, the default one first."""
    return list(_METHODS)


def cpu_count() -> int:
    """Return the cores of this machine; of a cluster that was named, the slots of all its nodes.

    Raises:
        ConfigError, BrokerUnreachable, NotAuthorised, Refused: the cluster does not take the program.
    """
    from manyhands.multiprocessing._processes import membership  # noqa: PLC0415 - 20 ms of a context that is only asked for

    slots = membership.current().slots() if membership.has_address() else None
    return slots or os.cpu_count() or 1


def freeze_support() -> None:
    """Do nothing: no process runs the script again."""


def allow_connection_pickling() -> None:
    """Do what the standard library does: load what registers connections."""
    multiprocessing.context.BaseContext.allow_connection_pickling(_default)


def set_executable(executable: Any) -> None:
    """Do nothing: a host's agent starts processes with the Python that it runs on."""


def set_forkserver_preload(module_names: list[str]) -> None:
    """Have every process load these modules before its own code, on whatever host it is.

    As in the standard library, those that are not there are passed over.

    Raises:
        TypeError: they are no list of names.
    """
    if not all(type(name) is str for name in module_names):
        raise TypeError("module_names must be a list of strings")
    _method.preload = list(module_names)


def preloaded() -> list[str]:
    """Return the modules that every process loads."""
    return _method.preload


def __getattr__(name: str) -> Any:
    # Programs read other names of the standard module as well.
    return getattr(multiprocessing.context, name)
