"""What cloudpickle cannot pickle, or takes for importable where it is not.

Cached functions and properties, generic functions, and modules that the script has made at run time.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import sys
import threading
from collections.abc import Callable
from contextvars import Context, ContextVar
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from manyhands_shared.payloads.by_value.dynamic_modules import is_made_at_run_time

_CACHED = type(functools.lru_cache(lambda: None))


@functools.singledispatch
def _generic(_: Any) -> None:
    """Stands for every generic function: they share their code."""


_GENERIC_CODE = _generic.__code__  # type: ignore[attr-defined]
_OF_GENERIC = frozenset({"register", "dispatch", "registry", "_clear_cache"})


def reduce(obj: Any) -> Any:
    """Return how to pickle an object of these kinds, by value; None for all others."""
    kind = type(obj)
    if obj is dataclasses.MISSING:
        return "MISSING"
    if kind is _CACHED:
        return _reduce_cached(obj)
    if kind is functools.cached_property:
        return _new_cached_property, (obj.func, obj.attrname)
    if kind is ModuleType and is_made_at_run_time(obj.__name__):
        names = {k: v for k, v in vars(obj).items() if k != "__builtins__"}
        return _module, (obj.__name__,), names, None, None, _fill_module
    if isinstance(obj, FunctionType | type) and is_made_at_run_time(obj.__module__):
        cloudpickle.register_pickle_by_value(sys.modules[obj.__module__])
    return None


def is_generic(function: Any) -> bool:
    """Whether it is what `functools.singledispatch` has made."""
    return type(function) is FunctionType and function.__code__ is _GENERIC_CODE


# Cached functions ------------------------------------------------------------------------------


class _Cached:
    """What a cache is made for before the function is there, which may refer to the cache."""

    function: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _reduce_cached(cached: Any) -> Any:
    if cached.__module__ != "__main__" and _is_at_its_name(cached):
        return None
    options = cached.cache_parameters()
    attributes = {k: v for k, v in vars(cached).items() if k != "cache_parameters"}
    return _cached, (options["maxsize"], options["typed"]), attributes, None, None, _fill_cached


def _cached(maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(_Cached())


def _fill_cached(cached: Any, attributes: dict[str, Any]) -> None:
    cached.__wrapped__.function = attributes["__wrapped__"]
    vars(cached).update(attributes)


def _new_cached_property(function: Any, name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _is_at_its_name(obj: Any) -> bool:
    module = sys.modules.get(obj.__module__)
    if module is None or is_made_at_run_time(obj.__module__):
        return False
    found: Any = module
    for part in obj.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is obj


# Generic functions -----------------------------------------------------------------------------


def reduce_generic(function: Any) -> Any:
    """Return how to pickle a generic function by value."""
    attributes = {k: v for k, v in vars(function).items() if k not in _OF_GENERIC}
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        attributes[name] = getattr(function, name)
    state = dict(function.registry), attributes
    return _new_generic, (), state, None, None, _fill_generic


def _new_generic() -> Any:
    return functools.singledispatch(lambda _: None)


def _fill_generic(function: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    registry, attributes = state
    for kind, implementation in registry.items():
        function.register(kind, implementation)
    for name, value in attributes.items():
        setattr(function, name, value)


# Modules made at run time ----------------------------------------------------------------------


_restored: dict[str, ModuleType] = {}


def _module(name: str) -> ModuleType:
    made = ModuleType(name)
    if sys.modules.get(name) is _restored.get(name):
        sys.modules[name] = _restored[name] = made  # for code that imports it by its name
    return made


def _fill_module(module: ModuleType, names: dict[str, Any]) -> None:
    vars(module).update(names)


class Fresh:
    """Pickles as a new object of the kind of one that is of its process alone, as a lock.

    A forked child has a copy of such a global, which it shares with no other process either.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._made_by = make, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made_by


def fresh(value: Any) -> Fresh | None:
    """Return what is pickled in the place of a global that cannot be pickled; None for all others."""
    kind = type(value)
    if (make := _MADE_ANEW.get(kind)) is not None:
        return Fresh(make)
    if kind is ContextVar:
        return (
            Fresh(ContextVar, value.name)
            if _default(value) is _NONE
            else Fresh(context_variable, value.name, _default(value))
        )
    if kind is threading.Event:
        return Fresh(event, value.is_set())
    if kind is struct.Struct:
        return Fresh(struct.Struct, value.format)
    return None


def context_variable(name: str, default: Any) -> ContextVar[Any]:
    """Return a new context variable. Called by pickles."""
    return ContextVar(name, default=default)


def event(is_set: bool) -> threading.Event:
    """Return a new event. Called by pickles."""
    made = threading.Event()
    if is_set:
        made.set()
    return made


_NONE = object()
_MADE_ANEW: dict[type, Callable[[], Any]] = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.Condition: threading.Condition,
    threading.local: threading.local,
}


def _default(variable: ContextVar[Any]) -> Any:
    try:
        return Context().run(variable.get)
    except LookupError:
        return _NONE
