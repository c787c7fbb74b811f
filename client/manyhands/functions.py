"""Functions on their way to the nodes: pickled once, named by their digest, noticed when changed.

A function that can be imported goes by reference. Any other (of `__main__`, a lambda, a closure) goes by
value, with the globals and closure variables it refers to, as they are at that moment. Such a pickle
is kept and used again as long as nothing that went into it has been *rebound*: the code, the
defaults, the closure's cells, each global the code names, the same of every function reached that
way, and the direct contents of small lists, dicts, sets and plain objects among them. What changes
deeper than that in place is not seen; pass such data as arguments.

Other callables (bound methods, partials, objects with `__call__`) are pickled at every call, as their
state may differ each time.
"""

from __future__ import annotations

import hashlib
import operator
import pickle
import sys
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

from manyhands_shared import labels, plain, serial
from manyhands_shared.messages import Function

#: Containers up to this size are compared entry by entry, larger ones by identity alone.
_WATCHED_ENTRIES = 64
_MISSING = object()


def pack(function: Callable[..., Any], value: Any = None) -> Function:
    """The function as it travels; `value` is what to send if it is not `function` itself.

    Raises:
        SubmitError: it cannot be pickled.
    """
    value = function if value is None else value
    blob = _by_reference(value) if value is function and importable(function) else None
    if blob is None:
        blob = serial.dumps_by_value(value)
    digest = hashlib.blake2b(blob, digest_size=16).digest()
    return Function(digest, describe(function), [blob])


def pack_plain(function: Callable[..., Any], how: str = plain.CALL) -> Function:
    """The function as it travels in a safe job: by its name.

    Raises:
        SubmitError: no node could find it by that.
    """
    blob = plain.pack_function(function, how)
    return Function(hashlib.blake2b(blob, digest_size=16).digest(), describe(function), [blob])


def demands(*parts: Callable[..., Any], safe: bool = False) -> dict[str, Any]:
    """The options of a job that say which nodes can run it, if these are what it calls."""
    if safe:
        return {"needs": [labels.MSGPACK]}
    if all(map(importable, parts)):
        return {"python": labels.PYTHON}
    import cloudpickle  # noqa: PLC0415 - whoever sends by value has it loaded

    return {"python": labels.PYTHON, "needs": list(labels.by_value(cloudpickle.__version__))}


def describe(function: Callable[..., Any]) -> str:
    """What to call a function before people."""
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    module = getattr(function, "__module__", None) or ""
    return str(name if module in ("", "builtins", "__main__") else f"{module}.{name}")[:200]


def importable(function: Any) -> bool:
    """Whether a node can be expected to find it by its name."""
    module_name = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or module_name == "__main__":
        return False
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None:
        by_value = cloudpickle.list_registry_pickle_by_value()
        if any(module_name == one or module_name.startswith(f"{one}.") for one in by_value):
            return False
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function


class Fingerprint:
    """Notices that a function would be pickled differently now."""

    __slots__ = ("_cells", "_containers", "_functions", "_globals")

    def __init__(self, function: FunctionType) -> None:
        self._functions: list[tuple[FunctionType, CodeType, Any, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._containers: list[tuple[Any, list[Any]]] = []
        seen: set[int] = set()
        pending = [function]
        while pending:
            current = pending.pop()
            if id(current) not in seen:
                seen.add(id(current))
                pending += self._watch(current)

    def holds(self) -> bool:
        """Whether everything that went into the pickle is what it was."""
        for function, code, defaults, keyword_defaults in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not keyword_defaults
            ):
                return False
        for cell, value in self._cells:
            if _content(cell) is not value:
                return False
        for namespace, name, value in self._globals:
            if namespace.get(name, _MISSING) is not value:
                return False
        for container, entries in self._containers:
            now = _entries(container)
            if len(now) != len(entries) or not all(map(operator.is_, now, entries)):
                return False
        return True

    def _watch(self, function: FunctionType) -> list[FunctionType]:
        """Note what this one refers to; return the functions that would be pickled with it."""
        code = function.__code__
        self._functions.append((function, code, function.__defaults__, function.__kwdefaults__))
        cells = [(cell, _content(cell)) for cell in function.__closure__ or ()]
        namespace = function.__globals__
        names = [(namespace, name, namespace.get(name, _MISSING)) for name in _names(code)]
        self._cells += cells
        self._globals += names
        values = [value for _, value in cells] + [value for _, _, value in names]
        self._containers += [(value, _entries(value)) for value in values if _is_watched(value)]
        return [v for v in values if isinstance(v, FunctionType) and not importable(v)]


def cacheable(function: Any) -> bool:
    """Whether a pickle of it can be kept and checked."""
    return isinstance(function, FunctionType) or importable(function)


def watch(function: Any) -> Fingerprint | None:
    """A fingerprint for a function that goes by value; one by reference needs none."""
    if isinstance(function, FunctionType) and not importable(function):
        return Fingerprint(function)
    return None


def _by_reference(function: Any) -> bytes | None:
    try:
        return pickle.dumps(function, 5)
    except Exception:  # noqa: BLE001 - then by value, whose error is the one to show
        return None


def _is_watched(value: Any) -> bool:
    if type(value) in (list, set, dict):
        return True
    return hasattr(value, "__dict__") and not isinstance(value, ModuleType | type | FunctionType)


def _entries(value: Any) -> list[Any]:
    """The direct contents of a small container or plain object; empty for a large one."""
    if type(value) in (list, set):
        return list(value) if len(value) <= _WATCHED_ENTRIES else []
    entries = value if type(value) is dict else getattr(value, "__dict__", None)
    if type(entries) is dict and len(entries) <= _WATCHED_ENTRIES:
        return [*entries, *entries.values()]
    return []


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return _MISSING


def _names(code: CodeType) -> set[str]:
    """Names that the code, or code nested in it, may look up among the globals."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names
