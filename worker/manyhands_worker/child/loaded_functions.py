"""Functions as a child has them: as they came, and loaded once a task needs them."""

from __future__ import annotations

import gc
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import getattr_static
from itertools import islice
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

from manyhands_shared.payloads.by_value.class_resolution import Guests, World
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.payloads.wrappers import MapChunk, Setup, StarmapChunk
from manyhands_shared.tracing import Traced
from manyhands_worker.child.codec import Codec
from manyhands_worker.child.failures import Told

NOT_LOADED: Final = object()
#: What holds the function of a task.
_WRAPPERS = (Setup, MapChunk, StarmapChunk, Traced)
#: Kinds of values that no task can change.
_PLAIN = frozenset({int, float, complex, str, bytes, bool, type(None)})
#: The modules of what processes share.
_SHARED = ("manyhands.multiprocessing", "multiprocessing.")
#: Classes that came with arguments alone.
_guests: Guests = OrderedDict()


class Loaded:
    """A function, or its payload and those of what it inherits, if no task has needed it yet."""

    __slots__ = ("counts", "payloads", "renews", "value", "world")

    def __init__(self, payloads: list[Payload], counts: list[int]) -> None:
        self.payloads = payloads
        self.counts = counts
        self.value: Any = NOT_LOADED
        #: Whether it is loaded for each attempt of a task: what a task changes in it is not for others.
        self.renews = False
        self.world = World(_guests)


class Borrowing:
    """Loaded functions that hold stored values, which their payloads do not count.

    Those used longest ago are unloaded when there are too many: they can be loaded again.

    Args:
        limit: bytes of stored values that they may hold together; the newest always may.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[bytes, tuple[Loaded, int]] = OrderedDict()
        self._nbytes = 0
        self._let_go = 0

    def add(self, digest: bytes, loaded: Loaded, nbytes: int) -> None:
        """Note what a function holds that has just been loaded."""
        if not nbytes:
            loaded.payloads = []
            return
        self._nbytes += nbytes - self._entries.pop(digest, (None, 0))[1]
        self._entries[digest] = loaded, nbytes
        while self._nbytes > self._limit and len(self._entries) > 1:
            _, (oldest, size) = self._entries.popitem(last=False)
            oldest.value = NOT_LOADED
            oldest.world = World(_guests)
            self._nbytes -= size
            self._let_go += size
        if self._let_go > self._limit:
            # A function that knows itself is garbage that only the collector sees.
            self._let_go = 0
            gc.collect()


def has_state(function: Any) -> bool:
    """Whether tasks may change what they call: a bound method's object, arguments of a `partial`.

    A function is shared by the tasks of a child, with its globals. So is what others can import.
    """
    if isinstance(function, _WRAPPERS):
        return has_state(function.function)
    if isinstance(function, FunctionType | type | MethodDescriptorType | WrapperDescriptorType):
        return False
    if isinstance(function, partial):
        held = (*function.args, *function.keywords.values())
        return has_state(function.func) or any(map(_may_change, held))
    if isinstance(function, MethodType | BuiltinFunctionType | MethodWrapperType):
        of = function.__self__
        return not (isinstance(of, type | ModuleType) or type(of) in _PLAIN)
    return not _is_named(function)


def _may_change(value: Any) -> bool:
    kind = type(value)
    # What is of a program, or of a manager, has its state elsewhere. To load it anew costs 0.5 ms.
    return not (kind in _PLAIN or kind.__module__.startswith(_SHARED))


def _is_named(value: Any) -> bool:
    """Whether a module has it by its name."""
    # Without code of the value's own.
    module, name = (getattr_static(value, key, None) for key in ("__module__", "__qualname__"))
    if type(module) is not str or type(name) is not str:
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def has_globals_here(function: Callable[..., Any]) -> bool:
    """Whether a function has come by value, so that what it sets is gone when it is unloaded."""
    return isinstance(function, FunctionType) and function.__module__ == "__main__"


def inheriting(
    codec: Codec, function: Callable[..., Any] | Setup, loaded: Loaded
) -> Callable[..., Any] | Setup:
    """The function, called with a list of results of each parent before its own arguments."""
    rest = iter(loaded.payloads[1:])
    try:
        parents = [
            [codec.value(payload) for payload in islice(rest, count)] for count in loaded.counts
        ]
    except BaseException as error:  # noqa: BLE001 - code of the values' own
        words = "a result of a job that this one comes after does not load"
        raise Told(f"{words} on {socket.gethostname()}", error) from None
    if isinstance(function, Setup):
        return replace(function, function=partial(function.function, *parents))
    return partial(function, *parents)
