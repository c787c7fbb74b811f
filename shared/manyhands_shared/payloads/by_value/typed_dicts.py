"""Typed dictionaries that inherit from others: their class has `dict` alone for a base."""

from __future__ import annotations

import sys
from typing import Any


def is_typeddict(kind: type) -> bool:
    """Whether a class is a `TypedDict`, of `typing` or `typing_extensions`."""
    return type(kind).__name__ == "_TypedDictMeta"


def bases(kind: type) -> tuple[Any, ...]:
    """Return the bases to make such a class with anew."""
    return (sys.modules[type(kind).__module__].TypedDict,)
