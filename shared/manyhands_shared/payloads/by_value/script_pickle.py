"""A function of a script as a pickle, with what a child needs to stand in for the script."""

from __future__ import annotations

import io
import pickle
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from manyhands_shared.payloads.by_value.main_module import (
    main_globals,
    manager_key,
    own_classes,
    restore,
    use_key,
)
from manyhands_shared.payloads.by_value.pickler import Pickler
from manyhands_shared.processes.signal_handlers import is_from_handler

_PROTOCOL = 5
_NAME = re.compile(r"[^\W\d]\w*")
#: Classes that travel with a function because it might ask for them: bytes of each, and of all.
_CLASS_BYTES, _CLASSES_BYTES = 64 << 10, 256 << 10
#: Takes a buffer that is to stay outside of the pickle, and says whether it goes inside after all.
Keep = Callable[[pickle.PickleBuffer], bool]


class _FunctionPickler(Pickler):
    """Of a function, with what the child's `__main__` is made of."""

    def __init__(self, file: io.BytesIO, keep: Keep, *, more: bool) -> None:
        super().__init__(file, _PROTOCOL, keep)
        self._main = vars(sys.modules["__main__"])
        self._more = more
        #: What was pickled and has a name in the script.
        self.names: dict[str, Any] = {}
        self.globals_ref[id(self._main)] = _MainGlobals()

    def note(self, obj: Any) -> None:
        """Note an object that goes by value."""
        if getattr(obj, "__module__", None) == "__main__":
            name, inner, path = obj.__qualname__.partition(".")
            found = self._main.get(name)
            if not inner and found is obj:
                self.names[name] = found
            if self._more:
                # What is inside a class is looked up through it. What a function makes is not.
                if inner and isinstance(found, type) and "<locals>" not in path:
                    self.names[name] = found
                self._note_annotations(obj)

    def _note_annotations(self, obj: Any) -> None:
        """Note what text among the annotations names: it is looked up in the script when asked for."""
        found = obj.__dict__ if isinstance(obj, type) else getattr(obj, "__annotations__", {})
        if isinstance(obj, type):
            found = found.get("__annotations__", {})
        for text in found.values() if isinstance(found, dict) else ():
            for name in _NAME.findall(text) if isinstance(text, str) else ():
                value = self._main.get(name)
                if isinstance(value, type | ModuleType) or type(value).__module__ == "typing":
                    self.names[name] = value


class _MainGlobals(dict[str, Any]):
    """Pickles as the globals of `__main__` over there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return main_globals, (dict(self),)


class _Names:
    """Pickles as a dict of what a pickler has noted, and goes on to note meanwhile."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), None, None, self._items()

    def _items(self) -> Iterator[tuple[str, Any]]:
        done: set[str] = set()
        while fresh := self._names.keys() - done:
            for name in sorted(fresh):
                done.add(name)
                yield name, self._names[name]


class _Classes:
    """Pickles as the pickles of further classes, as soon as all names are known."""

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (further_classes(self._names),)


class _Whole:
    """Pickles as a call of `restore`."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (_Key(), *self._arguments, sys.version_info[:2])


class _Key:
    """Pickles as a call of `use_key`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return use_key, (manager_key(),)


def with_script(function: Any) -> bytes:
    """Pickle a function that can be imported, with what else its tasks may need of the script."""
    return pickle.dumps(_Whole(function, {}, further_classes({})), _PROTOCOL)


def dumps_names(names: dict[str, Any]) -> bytes:
    """Pickle names of the script with their values; functions of the script share their globals.

    Raises whatever the pickling of a value raises.
    """
    with io.BytesIO() as file:
        Pickler(file, _PROTOCOL, None).dump(names)
        return file.getvalue()


def dumps_function(value: Any, keep: Keep, *, more: bool) -> bytes:
    """Pickle a function, or what it travels in, with all that it needs of the script.

    With `more`, that includes what may be asked for, and may not pickle: classes around what it
    refers to, and what text in annotations names.

    Raises whatever the function's own pickling raises.
    """
    with io.BytesIO() as file:
        pickler = _FunctionPickler(file, keep, more=more)
        names = pickler.names
        pickler.dump(_Whole(value, _Names(names), _Classes(names)))
        return file.getvalue()


_pickled: weakref.WeakKeyDictionary[type, tuple[tuple[int, ...], bytes]] = (
    weakref.WeakKeyDictionary()
)


def further_classes(names: dict[str, Any]) -> dict[str, bytes]:
    """Return pickles of the script's classes that are not among the names, as far as they are small."""
    found: dict[str, bytes] = {}
    room = _CLASSES_BYTES
    for name, value in own_classes().items():
        if name not in names:
            pickled = _pickle_class(value)
            if 0 < len(pickled) <= min(room, _CLASS_BYTES):
                found[name] = pickled
                room -= len(pickled)
    return found


def _pickle_class(kind: type) -> bytes:
    """Return the pickle of a class; empty where that cannot be, or is larger than it may be."""
    state = tuple(map(id, vars(kind).values()))
    known = _pickled.get(kind)
    if known is not None and known[0] == state:
        return known[1]
    try:
        with io.BytesIO() as file:
            Pickler(file, _PROTOCOL, None).dump(kind)
            pickled = file.getvalue()
    except Exception as error:
        if is_from_handler(error):
            raise
        pickled = b""  # a class that no task has asked for need not pickle
    if len(pickled) > _CLASS_BYTES:
        pickled = b""
    _pickled[kind] = state, pickled
    return pickled
