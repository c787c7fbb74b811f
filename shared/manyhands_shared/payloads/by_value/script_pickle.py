"""A function of a script as a pickle, with what a child needs to stand in for the script."""

from __future__ import annotations

import functools
import io
import pickle
import sys
import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from manyhands_shared.payloads.by_value.dynamic_modules import is_made_at_run_time
from manyhands_shared.payloads.by_value.main_module import (
    MainGlobals,
    manager_key,
    own_classes,
    own_functions,
    restore,
    use_key,
)
from manyhands_shared.payloads.by_value.pickler import Pickler
from manyhands_shared.payloads.by_value.text_lookups import (
    is_definition,
    looks_up_by_text,
    may_unpickle,
    names_in,
    nested,
    outer_class,
    text_annotations,
    texts,
)
from manyhands_shared.processes.signal_handlers import is_from_handler

_PROTOCOL = 5
#: Classes that travel with a function because it might ask for them: bytes of each, and of all.
_CLASS_BYTES, _CLASSES_BYTES = 64 << 10, 256 << 10
#: The same of all that a script has, for functions that look it up by text.
_EACH_BYTES, _ALL_BYTES = 1 << 20, 4 << 20
_MOST_PARTS = 100_000
#: Values whose loading does nothing but make them; so do functions, classes and modules.
_PLAIN = frozenset({int, float, complex, str, bytes, bytearray, bool, type(None)})
_CONTAINERS = frozenset({tuple, list, dict, set, frozenset})
_CACHED = type(functools.lru_cache(lambda: None))
#: Takes a buffer that is to stay outside of the pickle, and says whether it goes inside after all.
Keep = Callable[[pickle.PickleBuffer], bool]


class _FunctionPickler(Pickler):
    """Of a function, with what the child's `__main__` is made of."""

    def __init__(
        self,
        file: io.BytesIO,
        keep: Keep,
        *,
        more: bool,
        unpickles: bool,
        reducers: Mapping[type, Any] | None = None,
    ) -> None:
        super().__init__(file, _PROTOCOL, keep, reducers=reducers)
        self._main = vars(sys.modules["__main__"])
        self._more = more
        #: What was pickled and has a name in the script.
        self.names: dict[str, Any] = {}
        #: Whether a function among it looks up names by text.
        self.looks_up_by_text = False
        #: Whether one may unpickle other functions of the script.
        self.may_unpickle = unpickles
        self.globals_ref[id(self._main)] = MainGlobals()

    def note(self, obj: Any) -> None:
        """Note an object that goes by value. The client's `Fingerprint` watches what is noted here."""
        if getattr(obj, "__module__", None) == "__main__":
            name = obj.__qualname__
            if self._main.get(name) is obj:
                self.names[name] = obj
            if self._more:
                # What is inside a class is looked up through it. What a function makes is not.
                self._note_names(outer_class(obj))
                # Text is looked up in the script when annotations are asked for.
                self._note_names(names_in(text_annotations(obj)))
                if isinstance(obj, FunctionType):
                    self._note_names(names_in(texts(obj.__code__)))
                    self.looks_up_by_text |= looks_up_by_text(obj.__code__)
                    self.may_unpickle |= may_unpickle(obj)

    def _note_names(self, found: Iterable[str]) -> None:
        for name in found:
            value = self._main.get(name)
            if is_definition(value):
                self.names[name] = value


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


class _Further:
    """Pickles as the pickles of what else may be asked for, as soon as all names are known."""

    def __init__(self, pickler: _FunctionPickler) -> None:
        self._pickler = pickler

    def __reduce__(self) -> tuple[Any, ...]:
        names = self._pickler.names
        if self._pickler.looks_up_by_text:
            return dict, (_everything(names),)
        unpickles = self._pickler.may_unpickle
        functions = own_functions() if unpickles else {}
        return dict, (_further({**own_classes(), **functions}, names, anew=unpickles),)


class _IsEager:
    """Pickles as whether all of that is to be loaded at once."""

    def __init__(self, pickler: _FunctionPickler) -> None:
        self._pickler = pickler

    def __reduce__(self) -> tuple[Any, ...]:
        return bool, (self._pickler.looks_up_by_text,)


class _Whole:
    """Pickles as a call of `restore`."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        value, names, further, *eager = self._arguments
        return restore, (_Key(), value, names, further, sys.version_info[:2], *eager)


class _Key:
    """Pickles as a call of `use_key`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return use_key, (manager_key(),)


def with_script(function: Any) -> bytes:
    """Pickle a function that can be imported, with what else its tasks may need of the script."""
    further = _further(own_classes(), {}, anew=may_unpickle(function))
    return pickle.dumps(_Whole(function, {}, further), _PROTOCOL)


def dumps_names(names: dict[str, Any]) -> bytes:
    """Pickle names of the script with their values; functions of the script share their globals.

    Raises whatever the pickling of a value raises.
    """
    with io.BytesIO() as file:
        Pickler(file, _PROTOCOL, None).dump(names)
        return file.getvalue()


def dumps_function(
    value: Any,
    keep: Keep,
    *,
    more: bool,
    unpickles: bool = False,
    reducers: Mapping[type, Any] | None = None,
) -> bytes:
    """Pickle a function, or what it travels in, with all that it needs of the script.

    With `more`, that includes what may be asked for, and may not pickle: classes around what it
    refers to, and what text in annotations names. If it `unpickles`, other functions and classes of the
    script are there when they are asked for. `reducers` are those of certain types.

    Raises whatever the function's own pickling raises.
    """
    with io.BytesIO() as file:
        pickler = _FunctionPickler(file, keep, more=more, unpickles=unpickles, reducers=reducers)
        names = pickler.names
        try:
            pickler.dump(_Whole(value, _Names(names), _Further(pickler), _IsEager(pickler)))
        finally:
            # It holds objects that hold the pickler: what a call refers to would wait for a collection.
            pickler.clear_memo()
        return file.getvalue()


_pickled: weakref.WeakKeyDictionary[Any, tuple[tuple[int, ...], bytes]] = (
    weakref.WeakKeyDictionary()
)


def _further(
    definitions: Mapping[str, Any], names: Container[str], *, anew: bool
) -> dict[str, bytes]:
    """Return pickles of the definitions that are not among the names, as far as they are small.

    With `anew` none that is kept will do, for what a definition refers to may have changed in place.
    """
    found: dict[str, bytes] = {}
    room = _CLASSES_BYTES
    for name, value in definitions.items():
        if name not in names:
            pickled = _dumps_alone(value, _CLASS_BYTES) if anew else _pickle_definition(value)
            if 0 < len(pickled) <= room:
                found[name] = pickled
                room -= len(pickled)
    return found


def _pickle_definition(value: Any) -> bytes:
    """Return the pickle of a class or function; empty where that cannot be, or is too large."""
    state = tuple(map(id, _parts(value)))
    known = _pickled.get(value)
    if known is not None and known[0] == state:
        return known[1]
    pickled = _dumps_alone(value, _CLASS_BYTES)
    _pickled[value] = state, pickled
    return pickled


def _parts(value: Any) -> Iterator[Any]:
    """Give what a class or function is made of."""
    yield from vars(value).values()
    if isinstance(value, FunctionType):
        yield from (value.__code__, value.__defaults__, value.__kwdefaults__)
        for code in nested(value.__code__):
            yield from map(value.__globals__.get, code.co_names)


def _everything(names: Container[str]) -> dict[str, bytes]:
    """Return pickles of all else that the script has, as it is now, as far as it is plain."""
    found: dict[str, bytes] = {}
    room = _ALL_BYTES
    for name, value in list(vars(sys.modules["__main__"]).items()):
        if name not in names and not name.startswith("__") and _is_plain(value):
            pickled = _dumps_alone(value, min(room, _EACH_BYTES))
            if pickled:
                found[name] = pickled
                room -= len(pickled)
    return found


def _is_plain(value: Any) -> bool:
    """Whether to load a value does nothing but make it."""
    pending, left = [value], _MOST_PARTS
    while pending:
        value = pending.pop()
        left -= 1
        if type(value) in _CONTAINERS:
            left -= len(value)
            if left < 0:
                return False
            pending += (*value, *value.values()) if type(value) is dict else value
        elif isinstance(value, ModuleType):
            if is_made_at_run_time(value.__name__):
                return False
        elif type(value) not in _PLAIN and not isinstance(
            value, FunctionType | BuiltinFunctionType | type | functools.partial | _CACHED
        ):
            numpy = sys.modules.get("numpy")
            if numpy is None or type(value) is not numpy.ndarray:
                return False
    return True


class _Bounded(io.BytesIO):
    """Take `limit` bytes at most."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > self._limit:
            raise OverflowError("more than is wanted")
        return super().write(data)


def _dumps_alone(value: Any, limit: int) -> bytes:
    """Return a pickle of something that no task may ask for; empty if it is larger, or cannot be."""
    try:
        with _Bounded(limit) as file:
            pickler = Pickler(file, _PROTOCOL, None)
            pickler.globals_ref[id(vars(sys.modules["__main__"]))] = MainGlobals()
            pickler.dump(value)
            return file.getvalue()
    except Exception as error:
        if is_from_handler(error):
            raise
        return b""
