"""Types of `ctypes` that travel by value: structures and unions of a script, and arrays of anything."""

from __future__ import annotations

import operator
import sys
from typing import Any

#: What a structure is made with; set afterwards it comes too late.
_WITH = ("_pack_", "_align_", "_layout_", "_anonymous_", "_fields_")


def is_structure(kind: Any) -> bool:
    """Whether a class is a structure or union."""
    ctypes: Any = sys.modules.get("ctypes")
    return ctypes is not None and issubclass(kind, (ctypes.Structure, ctypes.Union))


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """Reduce what is known by no name: array types, and the class of structures; None for the rest."""
    ctypes: Any = sys.modules.get("ctypes")
    if ctypes is None or not isinstance(obj, type):
        return None
    for base in (ctypes.Structure, ctypes.Union):
        if obj is type(base):
            return type, (base,)
    kind, length = getattr(obj, "_type_", None), getattr(obj, "_length_", None)
    # A subclass of an array with a name of its own is no such type.
    if obj.__base__ is ctypes.Array and length is not None and kind * length is obj:
        return operator.mul, (kind, length)
    return None


def with_fields(arguments: tuple[Any, ...], members: dict[str, Any]) -> tuple[Any, ...]:
    """Have a structure made with its fields.

    Args:
        arguments: of cloudpickle's `_make_skeleton_class`; the fourth goes into the class's name space.
        members: the class's other attributes. What the fields make by themselves is taken out of them.
    """
    space = {**arguments[3]}
    for name in _WITH:
        if name in members:
            space[name] = members.pop(name)
    for field in space.get("_fields_", ()):
        members.pop(field[0], None)
    for field in space.get("_anonymous_", ()):
        # The fields of what has no name are the structure's own.
        kind = next(one[1] for one in space["_fields_"] if one[0] == field)
        for name, *_ in kind._fields_:
            members.pop(name, None)
    return (*arguments[:3], space, *arguments[4:])
