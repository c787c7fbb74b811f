"""Values and arrays of ctypes types in memory that processes on any host share.

Types and wrappers are the standard library's. Within a host processes share the very memory, at no cost.
Between hosts a process sees a write at the latest when it takes the lock that the writer has released.
To get its item or join its end is as good. Without any of that it sees the write within 0.1 s.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from multiprocessing import sharedctypes as _standard
from pickle import PicklingError
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._memory.blocks import Block
from manyhands.multiprocessing._memory.ctypes_shape import shape_of_type
from manyhands.multiprocessing.synchronize import RLock

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[str, Any] = _standard.typecode_to_type  # type: ignore[attr-defined]
_names: Any = _standard
make_property = _names.make_property


def RawValue(typecode_or_type: Any, *args: Any) -> Any:  # noqa: N802 - multiprocessing's name
    """Return a ctypes object in shared memory."""
    made = _new_value(typecode_to_type.get(typecode_or_type, typecode_or_type))
    made.__init__(*args)
    return made


def RawArray(typecode_or_type: Any, size_or_initializer: Any) -> Any:  # noqa: N802 - as above
    """Return a ctypes array in shared memory, of zeros or with what the initializer yields."""
    kind = typecode_to_type.get(typecode_or_type, typecode_or_type)
    if isinstance(size_or_initializer, int):
        return _new_value(kind * size_or_initializer)
    made = _new_value(kind * len(size_or_initializer))
    made.__init__(*size_or_initializer)
    return made


def Value(  # noqa: N802 - as above
    typecode_or_type: Any, *args: Any, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a `RawValue` with a lock around it."""
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(  # noqa: N802 - as above
    typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a `RawArray` with a lock around it."""
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def copy(obj: Any) -> Any:
    """Return a copy of a ctypes object in shared memory."""
    made = _new_value(type(obj))
    ctypes.pointer(made)[0] = obj
    return made


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> SynchronizedBase:
    """Return a wrapper of a ctypes object that takes a lock around each access."""
    assert not isinstance(obj, _standard.SynchronizedBase), "object already synchronized"
    if isinstance(obj, ctypes._SimpleCData):
        return Synchronized(obj, lock, ctx)
    if isinstance(obj, ctypes.Array):
        if obj._type_ is ctypes.c_char:
            return SynchronizedString(obj, lock, ctx)
        return SynchronizedArray(obj, lock, ctx)
    kind = type(obj)
    wrapper = class_cache.get(kind)
    if wrapper is None:
        names = [field[0] for field in kind._fields_]
        fields = {name: make_property(name) for name in names}
        wrapper = type(f"Synchronized{kind.__name__}", (SynchronizedBase,), fields)
        class_cache[kind] = wrapper
    made: SynchronizedBase = wrapper(obj, lock, ctx)
    return made


def _locked(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock in (True, None):
        lock = RLock(ctx=ctx)
    if not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx)


# Pickling: by reference, whatever pickles it


def reduce_ctype(obj: Any) -> Any:
    """Return how a ctypes object is pickled: by reference, if it is in shared memory of a program."""
    block = getattr(obj, "_wrapper", None)
    # `copy.copy` asks as pickling does, but wants a copy.
    caller = sys._getframe(1).f_globals.get("__name__")
    if block is None or (caller == "copy" and isinstance(block, Block)):
        return obj.__reduce_ex__(2)
    if not isinstance(block, Block):
        raise PicklingError(
            f"a {type(obj).__name__} of multiprocessing is known on one machine only; make it with "
            "manyhands.multiprocessing.RawValue(), RawArray(), Value() or Array() instead"
        )
    if isinstance(obj, ctypes.Array):
        return rebuild_ctype, (obj._type_, block, obj._length_)
    return rebuild_ctype, (type(obj), block, None)


def rebuild_ctype(type_: Any, wrapper: Block, length: int | None) -> Any:
    """Return the ctypes object in a block."""
    if length is not None:
        type_ = type_ * length
    reduction.register_memory(type_, reduce_ctype)
    made = type_.from_buffer(wrapper.create_memoryview())
    made._wrapper = wrapper
    return made


def _new_value(type_: Any) -> Any:
    return rebuild_ctype(type_, Block.new(ctypes.sizeof(type_), shape_of_type(type_)), None)


# Wrappers


class SynchronizedBase(_standard.SynchronizedBase):  # type: ignore[type-arg]
    """A ctypes object and its lock, as in the standard library."""

    _obj: Any
    _lock: Any

    def __init__(self, obj: Any, lock: Any = None, ctx: Any = None) -> None:
        super().__init__(obj, lock or RLock(ctx=ctx), ctx)

    def __reduce__(self) -> tuple[Any, ...]:
        return synchronized, (self._obj, self._lock)


class Synchronized(SynchronizedBase, _standard.Synchronized):  # type: ignore[type-arg]
    """A number and its lock."""


class SynchronizedArray(SynchronizedBase, _standard.SynchronizedArray):  # type: ignore[type-arg]
    """An array and its lock."""


class SynchronizedString(SynchronizedArray, _standard.SynchronizedString):
    """An array of characters and its lock."""


#: The wrapper of each structure.
class_cache: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()


def __getattr__(name: str) -> Any:
    """The rest is the standard library's own."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_standard, name)
