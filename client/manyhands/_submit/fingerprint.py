"""Whether something would be pickled by value as it was before.

A function or class that goes by value takes along its globals, closure variables, defaults, attributes,
and all that those refer to. A fingerprint walks the same way once, notes each place that can change,
and later compares: names and entries by identity, arrays by their content. Some things it does not know
how to follow: an object with a pickling of its own, a container with thousands of entries. They make it
*blind*: it never holds, and the function is pickled at each call.
"""

from __future__ import annotations

import abc
import copyreg
import enum
import functools
import re
import sys
import types
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from operator import is_
from typing import Any

from manyhands._submit.looks import (
    TEXTS_OF_FUNCTION,
    Missing,
    attributes,
    classes,
    content,
    default_of,
    definitions,
    entries,
    in_cell,
    in_slots,
    layout_of,
    of_class,
    of_function,
    of_partial,
    of_plain,
    of_property,
    of_slotted,
)
from manyhands_shared.payloads.by_value.dynamic_modules import is_made_at_run_time
from manyhands_shared.payloads.by_value.text_lookups import (
    is_definition,
    looks_up_by_text,
    may_unpickle,
    names_in,
    outer_class,
    text_annotations,
    texts,
)
from manyhands_shared.processes.signal_handlers import is_from_handler

#: Objects that are looked at before a fingerprint gives up: to pickle anew is quicker then.
_MAX_VISITS = 5_000
_HEAP_TYPE = 1 << 9
_POINTER_BYTES = 8

#: Types whose objects never change, or whose pickle is a name.
_CONSTANT = frozenset(
    {
        *(int, float, complex, str, bytes, bool, type(None), type(...), type(NotImplemented)),
        *(range, types.CodeType),
        *(types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType),
        *(re.Pattern, type(vars(abc.ABC)["_abc_impl"])),
    }
)
#: The same of modules that may not be loaded.
_CONSTANT_BY_NAME = {
    "_collections": ("_tuplegetter",),
    "collections": ("_tuplegetter",),
    "datetime": ("date", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "logging": ("Logger", "RootLogger"),
    "numpy": ("ufunc",),
    "pathlib": ("PurePosixPath", "PureWindowsPath", "PosixPath", "WindowsPath"),
    "uuid": ("UUID",),
    "zoneinfo": ("ZoneInfo",),
}
_WITH_ZONE = ("time", "datetime")
_METACLASSES = frozenset({type, abc.ABCMeta, type(enum.Enum)})


_OWN_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__")

#: What generic types and type variables are pickled with. Those of `typing` may have any of them.
_OF_ALIAS = ("__origin__", "__args__")
_OF_TYPING = (
    *(*_OF_ALIAS, "__metadata__", "__supertype__", "__forward_value__"),
    *("__bound__", "__constraints__", "__default__"),
)

#: How to look at an object, the object, and what was seen.
_Check = tuple[Callable[[Any], Any], Any, Any]


class Fingerprint:
    """Notices that something would be pickled differently now.

    Args:
        root: a function or class that goes by value.
        by_reference: it is a function that can be imported. Classes of the script travel with it.
    """

    __slots__ = ("_contents", "_equal", "_globals", "_modules", "_registered", "_same", "blind")

    def __init__(self, root: Any, *, by_reference: bool = False) -> None:
        #: Whether it cannot tell, and never holds.
        self.blind = False
        # Compared by `==`: functions without anything that could change inside.
        self._equal: list[_Check] = []
        # How to look up a global, its name, and what was found.
        self._globals: list[tuple[Callable[[str, Any], Any], str, Any]] = []
        # Compared item by item, by identity.
        self._same: list[_Check] = []
        # Compared by what they hold.
        self._contents: list[tuple[Any, Any]] = []
        # How many modules were loaded: a package is pickled with those of its submodules that are.
        self._modules: int | None = None
        # Of the abstract classes of this process, when classes were last registered with any.
        self._registered: Any = None
        walk = _Walk(self, not by_reference and isinstance(root, types.FunctionType))
        walk.follow(root, by_reference)

    def holds(self) -> bool:
        """Whether everything that went into the pickle is what it was."""
        for look, value, seen in self._equal:
            if look(value) != seen:
                return False
        for get, name, seen in self._globals:
            if get(name, Missing) is not seen:
                return False
        for look, value, seen in self._same:
            now = look(value)
            if len(now) != len(seen) or not all(map(is_, now, seen)):
                return False
        for value, seen in self._contents:
            if content(value) != seen:
                return False
        return not (
            self.blind
            or (self._modules is not None and self._modules != len(sys.modules))
            or (self._registered is not None and self._registered != abc.get_cache_token())
        )


class _Walk:
    """Goes from object to object, as pickling by value does, and notes what to look at again."""

    def __init__(self, notes: Fingerprint, takes_names: bool) -> None:
        self._notes = notes
        # A function also takes along what it may ask for by name. A class alone does not.
        self._takes_names = takes_names
        self._main = vars(sys.modules["__main__"])
        self._named: set[str] = set()
        self._absent: set[str] = set()
        self._unpickles = False
        self._seen: dict[int, Any] = {}  # the objects too: an id is used again once they are gone
        self._pending: list[Any] = []

    def follow(self, root: Any, by_reference: bool) -> None:
        if by_reference:
            self._keep(classes, self._main)
        else:
            self._pending.append(root)
        while self._pending and not self._notes.blind:
            value = self._pending.pop()
            if type(value) in _CONSTANT or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            if len(self._seen) + len(self._pending) > _MAX_VISITS or not self._visit(value):
                self._notes.blind = True
        if self._absent:
            is_free_of = self._main.keys().isdisjoint
            self._notes._equal.append((is_free_of, frozenset(self._absent), True))

    def _take_names(self, value: Any) -> None:
        """Note what travels because a function or class of the script may ask for it by its name."""
        found = outer_class(value)
        if written := text_annotations(value):
            found += names_in(written)
        if isinstance(value, types.FunctionType):
            found += names_in(texts(value.__code__))
            if not self._unpickles and may_unpickle(value):
                self._unpickles = True
                self._keep(definitions, self._main)
        for name in found:
            if name not in self._named:
                self._named.add(name)
                self._take_name(name)

    def _take_name(self, name: str) -> None:
        value = self._main.get(name, Missing)
        if value is Missing:
            self._absent.add(name)
            return
        # Other values may change as they like: they do not travel.
        get = self._main.get if is_definition(value) else self._definition
        self._notes._globals.append((get, name, get(name, Missing)))
        self._pending.append(get(name, Missing))

    def _definition(self, name: str, default: Any) -> Any:
        value = self._main.get(name)
        return value if is_definition(value) else default

    def _visit(self, value: Any) -> bool:
        """Note one object; false if it is of a kind that cannot be followed."""
        kind = type(value)
        visit = _VISITS.get(kind)
        if visit is None:
            # No generator: what a signal handler raises while one is closed does not come out.
            for parent, how in _VISITS_OF_SUBCLASSES:
                if isinstance(value, parent):
                    visit = how
                    break
        if visit is not None:
            return visit(self, value)
        if kind.__module__ == "typing":
            return self._typing(value)
        if kind.__name__ in _CONSTANT_BY_NAME.get(kind.__module__, ()):
            return True
        if kind.__module__ == "datetime" and kind.__name__ in _WITH_ZONE:
            self._pending.append(value.tzinfo)
            return True
        numpy = sys.modules.get("numpy")
        if numpy is not None and kind is numpy.ndarray:
            return self._buffer(value)
        if numpy is not None and isinstance(value, numpy.dtype):
            return self._dtype(value)
        if numpy is not None and isinstance(value, numpy.generic):
            # Other classes derive from these, and have attributes.
            return kind.__module__ == "numpy" and bool(value.dtype.isbuiltin)
        return self._plain(value)

    def _keep(self, look: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
        seen: tuple[Any, ...] = look(value)
        self._notes._same.append((look, value, seen))
        self._pending += seen
        return seen

    def _function(self, function: types.FunctionType) -> bool:
        if importable(function):
            return True
        if function.__module__ == "__main__" and looks_up_by_text(function.__code__):
            return False
        if self._takes_names and function.__module__ == "__main__":
            self._take_names(function)
        seen = of_function(function)
        if any(seen[len(TEXTS_OF_FUNCTION) :]):
            self._keep(of_function, function)
        else:
            self._notes._equal.append((of_function, function, (*seen[:-2], {}, {})))
        for cell in function.__closure__ or ():
            self._keep(in_cell, cell)
        get = function.__globals__.get
        from manyhands_shared.payloads.by_value.global_names import (  # noqa: PLC0415 - 4 ms with `dis`
            global_names,
        )

        for name in global_names(function.__code__):
            value = get(name, Missing)
            self._notes._globals.append((get, name, value))
            self._pending.append(value)
        return True

    def _builtin(self, function: types.BuiltinFunctionType) -> bool:
        owner = function.__self__
        if isinstance(owner, type):  # `__new__` of a class of C's
            self._pending.append(owner)
            return True
        return owner is None or isinstance(owner, types.ModuleType)

    def _module(self, module: types.ModuleType) -> bool:
        self._notes._modules = len(sys.modules)
        return module.__name__ in sys.modules and not _goes_by_value(module.__name__)

    def _class(self, kind: type) -> bool:
        if not kind.__flags__ & _HEAP_TYPE or importable(kind):
            return True
        if type(kind) not in _METACLASSES:
            return False
        if isinstance(kind, abc.ABCMeta):
            self._notes._registered = abc.get_cache_token()
        if self._takes_names and kind.__module__ == "__main__":
            self._take_names(kind)
        self._keep(of_class, kind)
        self._keep(entries, kind.__dict__)
        return True

    def _items(self, container: Any) -> bool:
        if len(container) > _MAX_VISITS:
            return False
        self._keep(tuple, container)
        return True

    def _mapping(self, mapping: Any) -> bool:
        if len(mapping) > _MAX_VISITS:
            return False
        if type(mapping) is defaultdict:
            self._keep(default_of, mapping)
        elif type(mapping) is OrderedDict:
            self._keep(attributes, mapping)
        self._keep(entries, mapping)
        return True

    def _constant_items(self, items: Collection[Any]) -> bool:
        if len(items) > _MAX_VISITS:
            return False
        self._pending += items
        return True

    def _method(self, method: types.MethodType) -> bool:
        self._pending += (method.__func__, method.__self__)
        return True

    def _wrapped(self, method: Any) -> bool:
        self._pending.append(method.__func__)
        return True

    def _property(self, descriptor: property) -> bool:
        self._keep(of_property, descriptor)
        return True

    def _partial(self, partial: Any) -> bool:
        self._keep(of_partial, partial)
        return True

    def _alias(self, alias: Any) -> bool:
        self._pending += (getattr(alias, name, None) for name in _OF_ALIAS)
        return True

    def _typing(self, value: Any) -> bool:
        try:
            for name in _OF_TYPING:
                self._pending.append(getattr(value, name, None))
        except Exception as error:
            # Bounds are evaluated when asked for, from Python 3.12 on, and may name what is not there.
            if is_from_handler(error):
                raise
            return False
        return True

    def _descriptor(self, descriptor: Any) -> bool:
        self._pending.append(descriptor.__objclass__)
        return True

    def _enum(self, member: enum.Enum) -> bool:
        self._pending += (type(member), member.__dict__)
        return True

    def _named_tuple(self, value: tuple[Any, ...]) -> bool:
        self._pending.append(type(value))
        return (
            hasattr(value, "_fields")
            and not hasattr(value, "__dict__")
            and self._constant_items(value)
        )

    def _buffer(self, value: Any) -> bool:
        seen = content(value)
        self._notes._contents.append((value, seen))
        return seen is not None

    def _dtype(self, dtype: Any) -> bool:
        seen = layout_of(dtype)
        if seen is not dtype:
            self._notes._equal.append((layout_of, dtype, seen))
        return seen is not None

    def _plain(self, value: Any) -> bool:
        """An object that is pickled as its class, its `__dict__` and its slots."""
        kind = type(value)
        if (
            not kind.__flags__ & _HEAP_TYPE
            or kind in copyreg.dispatch_table
            or any(getattr(kind, name) is not getattr(object, name) for name in _OWN_PICKLING)
            or hasattr(kind, "__getnewargs__")
            or hasattr(kind, "__getnewargs_ex__")
        ):
            return False
        slots = [
            slot
            for parent in kind.__mro__
            for slot in vars(parent).values()
            if type(slot) is types.MemberDescriptorType
        ]
        extra = (kind.__weakrefoffset__ > 0) + (kind.__dictoffset__ > 0)
        if kind.__basicsize__ != object.__basicsize__ + (len(slots) + extra) * _POINTER_BYTES:
            return False  # it holds something else, of C's
        if slots:
            self._keep(functools.partial(in_slots, slots), value)
        self._keep(of_plain if kind.__dictoffset__ else of_slotted, value)
        return True


_VISITS: dict[type, Callable[[_Walk, Any], bool]] = {
    types.FunctionType: _Walk._function,
    types.BuiltinFunctionType: _Walk._builtin,
    types.ModuleType: _Walk._module,
    types.GetSetDescriptorType: _Walk._descriptor,
    types.MemberDescriptorType: _Walk._descriptor,
    types.MethodType: _Walk._method,
    types.GenericAlias: _Walk._alias,
    types.UnionType: _Walk._alias,
    list: _Walk._items,
    set: _Walk._items,
    deque: _Walk._items,
    dict: _Walk._mapping,
    types.MappingProxyType: _Walk._mapping,
    OrderedDict: _Walk._mapping,
    defaultdict: _Walk._mapping,
    Counter: _Walk._mapping,
    tuple: _Walk._constant_items,
    frozenset: _Walk._constant_items,
    classmethod: _Walk._wrapped,
    staticmethod: _Walk._wrapped,
    property: _Walk._property,
    functools.partial: _Walk._partial,
    bytearray: _Walk._buffer,
    array: _Walk._buffer,
}

#: For objects of any class that derives from these, the first that fits.
_VISITS_OF_SUBCLASSES: tuple[tuple[type, Callable[[_Walk, Any], bool]], ...] = (
    (type, _Walk._class),
    (enum.Enum, _Walk._enum),
    (tuple, _Walk._named_tuple),
)


def importable(function: Any) -> bool:
    """Whether a node can be expected to find it by its name."""
    module_name = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or module_name == "__main__":
        return False
    if _goes_by_value(module_name):
        return False
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function


def _goes_by_value(module_name: str) -> bool:
    """Whether a module travels by value: the user has said so, or has made it at run time."""
    if is_made_at_run_time(module_name):
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    by_value = cloudpickle.list_registry_pickle_by_value()
    return any(module_name == one or module_name.startswith(f"{one}.") for one in by_value)
