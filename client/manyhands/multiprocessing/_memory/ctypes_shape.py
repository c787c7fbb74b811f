"""Where the items of a ctypes type begin: its numbers, each written as one."""

from __future__ import annotations

import ctypes
from typing import Any

from manyhands_shared.coordination.memory.shape import MAX_OFFSETS


def shape_of_type(type_: Any) -> Any:
    """Return the shape of a type; see `coordination.memory.shape`."""
    offsets = sorted(_offsets(type_, MAX_OFFSETS) or [0])
    size = ctypes.sizeof(_element(type_))
    if len(offsets) > MAX_OFFSETS or offsets == [0]:
        return max(size, 1)
    return [size, offsets]


def _element(type_: Any) -> Any:
    """Return the type that an array of any depth is made of."""
    while issubclass(type_, ctypes.Array):
        type_ = type_._type_
    return type_


def _offsets(type_: Any, most: int) -> set[int]:
    """Return where the items of an element begin; at most a few more than `most`."""
    return _inside(_element(type_), most)


def _inside(type_: Any, most: int) -> set[int]:
    if issubclass(type_, ctypes.Array):
        size = ctypes.sizeof(type_._type_)
        of_one = _inside(type_._type_, most)
        count = min(type_._length_, most // max(1, len(of_one)) + 1)
        return {place * size + offset for place in range(count) for offset in of_one}
    if not issubclass(type_, ctypes.Structure):
        # Of a union all is one item: nothing tells which of its fields was written.
        return {0}
    found = {0}
    for base in type_.__mro__:
        for name, kind, *_ in base.__dict__.get("_fields_", ()):
            begin = getattr(base, name).offset
            found |= {begin + offset for offset in _inside(kind, most)}
    return found
