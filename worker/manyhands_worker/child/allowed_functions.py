"""Functions by name, and the list of those that a safe node runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from manyhands_shared.errors import ConfigError
from manyhands_shared.payloads.safe import MAP, STARMAP
from manyhands_shared.payloads.wrappers import MapChunk, StarmapChunk

#: Patterns of ``module:qualname``, as in ``math:*``.
Patterns = tuple[str, ...]

_WRAPPERS: dict[str, Callable[[Any], Any]] = {MAP: MapChunk, STARMAP: StarmapChunk}
_WILD = frozenset("*?[")


def parse(text: str) -> Patterns | None:
    """A comma-separated list of patterns; `None` for an empty text, which is no list at all.

    Raises:
        ConfigError: one is not of the form ``module:name``, or leaves open which package it means.
    """
    patterns = tuple(filter(None, map(str.strip, text.split(","))))
    for pattern in patterns:
        module, colon, name = pattern.partition(":")
        if not colon or not module or not name:
            raise ConfigError(f"safe: {pattern!r} is not of the form module:name, as in math:*")
        if _WILD & set(module.partition(".")[0]):
            raise ConfigError(
                f"safe: {pattern!r} must begin with the whole name of a package: "
                "among all modules are some that run anything"
            )
    return patterns or None


def find(name: str, how: str, allowed: Patterns | None) -> Callable[..., Any]:
    """The function called ``module:qualname``.

    With a list, nothing is imported that is not on it. A function must be defined where its name says:
    a module that imports `os` has ``os.system`` among its names as well.

    Raises:
        PermissionError: it is not on the list.
        LookupError: there is none by that name.
    """
    if allowed is not None and not any(fnmatchcase(name, pattern) for pattern in allowed):
        raise PermissionError(f"{name} is not on this node's list of functions (--safe)")
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"no {name} here: {error}") from None
    defined = f"{getattr(found, '__module__', '')}:{getattr(found, '__qualname__', '')}"
    if defined != name or not callable(found):
        raise PermissionError(f"{name} is not the name under which a function is defined")
    return _WRAPPERS[how](found) if how else found  # type: ignore[no-any-return]
