"""Functions that look up names of the script by text: `globals()`, `eval`, `import __main__`.

What they will ask for stands nowhere in their code. So they take along what the script has, as far as
that is plain and small.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

_WORDS = frozenset({"globals", "eval", "exec", "__main__"})
_LOADERS = frozenset({"load", "loads", "read_pickle", "Unpickler"})
#: What has functions of these names that load no pickles.
_SAFE_MODULES = frozenset(
    {"json", "marshal", "orjson", "plistlib", "simplejson", "tomli", "tomllib", "ujson"}
)
_NAME = re.compile(r"[^\W\d]\w*")
#: Names with what may stand between them. Sentences, in docstrings, are none.
_ANNOTATION = re.compile(r"""[\w.\[\]'"]+(?:(?:, ?| ?\| ?)[\w.\[\]'"]+)*""")
_known: weakref.WeakKeyDictionary[CodeType, bool] = weakref.WeakKeyDictionary()


def looks_up_by_text(code: CodeType) -> bool:
    """Whether code, or code nested in it, may look up any name of its script."""
    found = _known.get(code)
    if found is None:
        found = _known[code] = any(
            not _WORDS.isdisjoint(one.co_names)
            or "__main__" in one.co_consts
            or {"modules", "__name__"}.issubset(one.co_names)
            for one in nested(code)
        )
    return found


def may_unpickle(function: Any) -> bool:
    """Whether a function, or code nested in it, calls something that is called as `pickle.load` is."""
    if type(function) is not FunctionType:
        return _is_loader(function)
    space = function.__globals__
    found: set[str] = set()
    for one in nested(function.__code__):
        for name in one.co_names:
            if name in _LOADERS:
                found.add(name)
            elif _is_loader(space.get(name)):
                return True
    if not found:
        return False
    from manyhands_shared.payloads.by_value.global_names import (  # noqa: PLC0415 - 4 ms with `dis`
        owners,
    )

    return not all(
        owner in _SAFE_MODULES or _is_safe(space.get(owner))
        for owner in owners(function.__code__, found)
    )


def _is_loader(value: Any) -> bool:
    """Whether a value is such a function, by whatever name the script has it."""
    return (
        type(value) in (BuiltinFunctionType, FunctionType)
        and value.__name__ in _LOADERS
        and not _is_safe(value)
    )


def _is_safe(value: Any) -> bool:
    """Whether a value is one of the modules that load no pickles, or of one."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and name.partition(".")[0] in _SAFE_MODULES


def nested(code: CodeType) -> Iterator[CodeType]:
    """Give code, and all code in it."""
    pending = [code]
    while pending:
        code = pending.pop()
        yield code
        pending += (one for one in code.co_consts if isinstance(one, CodeType))


def texts(code: CodeType) -> Iterator[str]:
    """Give the texts in code, and in code nested in it, that may be annotations."""
    for one in nested(code):
        for constant in one.co_consts:
            for text in constant if isinstance(constant, tuple) else (constant,):
                if isinstance(text, str) and _ANNOTATION.fullmatch(text):
                    yield text


def names_in(found: Iterable[str]) -> Iterator[str]:
    """Give the names in texts."""
    for text in found:
        yield from _NAME.findall(text)


def text_annotations(obj: Any) -> list[str]:
    """Return the texts among the annotations of a function or class."""
    found = obj.__dict__ if isinstance(obj, type) else getattr(obj, "__annotations__", {})
    if isinstance(obj, type):
        found = found.get("__annotations__", {})
    return (
        [one for one in found.values() if isinstance(one, str)] if isinstance(found, dict) else []
    )


def outer_class(obj: Any) -> list[str]:
    """Return the name of the class that a function or class is looked up through, if there is one."""
    name, inner, path = obj.__qualname__.partition(".")
    return [name] if inner and "<locals>" not in path else []


def is_definition(value: Any) -> bool:
    """Whether a value travels if text among annotations names it."""
    return isinstance(value, type | ModuleType) or type(value).__module__ == "typing"
