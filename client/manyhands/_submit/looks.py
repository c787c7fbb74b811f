"""How a fingerprint looks at an object: what of it is compared with what it was.

Each function here, `content` and `layout_of` excepted, returns the values that the object refers to.
"""

from __future__ import annotations

import types
from array import array
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import xxhash

from manyhands_shared.payloads.by_value.main_module import own_classes, own_functions


class Missing:
    """Stands for a name or an attribute that is not there."""


TEXTS_OF_FUNCTION = ("__code__", "__name__", "__qualname__", "__module__", "__doc__")
PARTS_OF_FUNCTION = ("__defaults__", "__kwdefaults__", "__dict__", "__annotations__")
of_function = attrgetter(*TEXTS_OF_FUNCTION, *PARTS_OF_FUNCTION)
of_class = attrgetter("__class__", "__bases__", "__name__", "__qualname__")
of_property = attrgetter("fget", "fset", "fdel", "__doc__")
of_partial = attrgetter("func", "args", "keywords", "__dict__")


def content(value: Any) -> Any:
    """What an array or `bytearray` holds, as something small; None if that cannot be told."""
    shape = None
    view: Any = value
    if type(value) is not bytearray and type(value) is not array:  # of NumPy
        if value.dtype.hasobject or not (value.flags.c_contiguous or value.flags.f_contiguous):
            return None
        layout = value.dtype
        if layout.isbuiltin != 1 and (layout := layout_of(layout)) is None:
            return None
        shape = layout, value.shape, value.strides, value.flags.writeable
        view = value.reshape(-1, order="A").view("u1") if value.size else b""
    return shape, memoryview(view).nbytes, xxhash.xxh3_128_digest(view)


def layout_of(dtype: Any) -> Any:
    """What a dtype is now; None if that cannot be told. The names of its fields can change in place."""
    if dtype.isbuiltin == 1:
        return dtype
    if dtype.metadata or dtype.hasobject:
        return None
    if dtype.subdtype is not None:
        base = layout_of(dtype.base)
        return None if base is None else (dtype, base)
    if dtype.names is None:
        return dtype
    fields = [(name, *more, layout_of(inner)) for name, (inner, *more) in dtype.fields.items()]
    return None if any(field[-1] is None for field in fields) else (dtype, dtype.names, fields)


def entries(mapping: Any) -> tuple[Any, ...]:
    return (*mapping, *mapping.values())


def default_of(mapping: Any) -> tuple[Any, ...]:
    return (mapping.default_factory,)


def classes(_main: Any) -> tuple[Any, ...]:
    return entries(own_classes())


def definitions(_main: Any) -> tuple[Any, ...]:
    return (*entries(own_classes()), *entries(own_functions()))


def attributes(value: Any) -> tuple[Any, ...]:
    return (value.__dict__,)


def of_plain(value: Any) -> tuple[Any, ...]:
    # Both can be replaced as a whole.
    return type(value), value.__dict__


def of_slotted(value: Any) -> tuple[Any, ...]:
    return (type(value),)


def in_slots(slots: Sequence[Any], value: Any) -> tuple[Any, ...]:
    return tuple([in_slot(slot, value) for slot in slots])


def in_slot(slot: Any, value: Any) -> Any:
    try:
        return slot.__get__(value)
    except AttributeError:  # not set
        return Missing


def in_cell(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # not filled yet
        return ()
