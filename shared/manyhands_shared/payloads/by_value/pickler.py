"""Pickling and loading what travels by value: cloudpickle, with a say in what classes become.

See `class_resolution` for why. Only loaded where something does travel so: cloudpickle takes 25 ms.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping
from enum import EnumMeta
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, ClassVar, TypeVar, cast

from cloudpickle import cloudpickle

from manyhands_shared.payloads.by_value import class_making, ctypes_types, enums, names, reducers
from manyhands_shared.payloads.by_value.class_resolution import Arrival
from manyhands_shared.payloads.by_value.global_names import global_names
from manyhands_shared.payloads.by_value.main_module import (
    MainGlobals,
    is_filled_up,
    missing,
    visited_globals,
)
from manyhands_shared.payloads.by_value.typed_dicts import bases as typed_dict_bases
from manyhands_shared.payloads.by_value.typed_dicts import is_typeddict

_by_id = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
_ids = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS
_id_lock = cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK
_make_class = cloudpickle._make_skeleton_class
_make_enum = cloudpickle._make_skeleton_enum
_make_function = cloudpickle._make_function
_names_of_code = cloudpickle._extract_code_globals_cache
_MODULE = cloudpickle.__name__

#: Stands among what a function is filled with, if the script has it by its name.
_NAMED = "named"
_HIDDEN_FILENAME = "<dynamic-code>"


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Reduce code with the name of its file, for tracebacks and `inspect`: cloudpickle hides it."""
    maker, arguments, *rest = cloudpickle._code_reduce(code)
    named = (code.co_filename if _is_hidden(one) else one for one in arguments)
    return (maker, tuple(named), *rest)


def _is_hidden(argument: Any) -> bool:
    # Under `-bb` it is an error to compare bytes with text.
    return type(argument) is str and argument == _HIDDEN_FILENAME


#: Gives a number that changes when a class does.
Version = Callable[[type], int]


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, which says more of a class: its full name, and its version if that is asked for.

    That is asked for of arguments. Functions of the script among them have its globals over there.
    """

    dispatch_table: ClassVar[Any] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )

    def __init__(
        self,
        file: io.BytesIO,
        protocol: int,
        buffer_callback: Callable[[pickle.PickleBuffer], Any] | None,
        version: Version | None = None,
        reducers: Mapping[type, Any] | None = None,
    ) -> None:
        if reducers is not None:
            # The base class takes it from the instance.
            self.dispatch_table = ChainMap(cast("Any", reducers), type(self).dispatch_table)  # type: ignore[misc]
        super().__init__(file, protocol=protocol, buffer_callback=buffer_callback)
        self._version = version
        # What is pickled in the place of objects, by their ids.
        self._renewed: dict[int, Any] = {}
        if version is not None:
            self.globals_ref[id(vars(sys.modules["__main__"]))] = MainGlobals(visited_globals)

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what goes by value; everything else is left to the usual ways."""
        reduced = reducers.reduce(obj) or ctypes_types.reduce(obj)
        if reduced is None:
            if type(obj) is FunctionType and obj.__code__ not in _names_of_code:
                _names_of_code[obj.__code__] = global_names(obj.__code__)
            reduced = super().reducer_override(obj)
        if reduced is NotImplemented and type(obj) not in self.dispatch_table:
            return names.reduce(obj)
        if type(reduced) is not tuple:
            return reduced
        self.note(obj)
        if reducers.is_generic(obj):
            return reducers.reduce_generic(obj)
        if reduced[0] is _make_function:
            slots = reduced[2][1]
            self._renew(slots["__globals__"])
            if _is_named_in_script(obj):
                slots[_NAMED] = True
            return reduced
        if reduced[0] in (_make_class, _make_enum):
            maker, arguments, *rest = reduced
            rest[0][0]["__qualname__"] = obj.__qualname__  # cloudpickle forgets it
            self._renew(rest[0][0])
            extra = {"qualname": obj.__qualname__, "named": _is_named_in_script(obj)}
            if self._version is not None:
                extra["version"] = self._version(obj)
            # A base that is no class makes slots of its own, as `typing.NamedTuple` does.
            plain = maker is _make_class and all(isinstance(base, type) for base in arguments[2])
            if plain and "__slots__" in vars(obj):
                arguments = _with_slots(obj, arguments, rest[0][0])
            if maker is _make_class and arguments[2] == (dict,) and is_typeddict(obj):
                # What inherits from another has that one's entries, and is made without it.
                arguments = (*arguments[:2], typed_dict_bases(obj), *arguments[3:])
            if plain and ctypes_types.is_structure(obj):
                arguments = ctypes_types.with_fields(arguments, rest[0][0])
            if maker is _make_enum and (found := enums.members(obj)) is not None:
                state, more = rest[0]
                state = {k: v for k, v in state.items() if k not in obj.__members__}
                state = state, {**more, "members": enums.attributes(obj)}
                maker, rest = enums.skeleton, [state, None, None, enums.fill_class]
                if type(obj) is not EnumMeta:
                    extra["metaclass"] = type(obj)
                arguments = (*arguments[:3], found, *arguments[4:])
            return (maker, (*arguments[:-1], extra), *rest)
        return reduced

    def _renew(self, names: dict[str, Any]) -> None:
        """Put new ones in the places of locks and the like: one for each, in all of this pickle."""
        for name, value in names.items():
            new = self._renewed.get(id(value)) or reducers.fresh(value)
            if new is not None:
                self._renewed[id(value)] = names[name] = new

    def note(self, obj: Any) -> None:
        """Called for each object that goes by value."""


def makes_class(reduced: Any) -> bool:
    """Whether what `Pickler.reducer_override` has returned makes a class that goes by value."""
    return type(reduced) is tuple and reduced[0] in (_make_class, _make_enum, enums.skeleton)


def _is_named_in_script(what: type | FunctionType) -> bool:
    """Whether this is what the script has by its name. A decorator may have put another there."""
    return vars(sys.modules["__main__"]).get(what.__qualname__) is what


def class_id(kind: type) -> str:
    """Return the id by which other processes know a class that goes by value."""
    return str(cloudpickle._get_or_create_tracker_id(kind))


def _with_slots(kind: type, arguments: tuple[Any, ...], members: dict[str, Any]) -> tuple[Any, ...]:
    """Have a class made with its slots, which cloudpickle only tells it of afterwards.

    Else its instances have a `__dict__` over there, and do not load where they have none.

    Args:
        kind: the class.
        arguments: of `_make_class`; the fourth goes into the class's name space when it is made.
        members: the class's other attributes. What the slots make by themselves is taken out of them.
    """
    slots = members.pop("__slots__")
    slots = (slots,) if isinstance(slots, str) else tuple(slots)
    for name in (*slots, "__weakref__", "__slotnames__"):
        private = name.startswith("__") and not name.endswith("__")
        members.pop(f"_{kind.__name__.lstrip('_')}{name}" if private else name, None)
    space = {**arguments[3], "__slots__": slots}
    return (*arguments[:3], space, *arguments[4:])


class Finder:
    """What one pickle of `Pickler` or cloudpickle names, by an `Arrival`."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self._known: dict[int, Any] = {}
        self._ours: dict[str, Any] = {
            "_make_skeleton_class": self._class,
            "_make_skeleton_enum": self._enum,
            "skeleton": self._enum_with_members,
            "fill_class": self._fill_class,
            "_make_typevar": self._type_variable,
            "_class_setstate": self._fill_class,
            "_make_function": self._function,
            "_function_setstate": self._fill_function,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return what cloudpickle calls so, or what takes its place here."""
        if module in (_MODULE, enums.__name__) and name in self._ours:
            return self._ours[name]
        return getattr(import_module(module), name)

    def _class(
        self, kind: Any, name: str, bases: Any, more: dict[str, Any], of: str, extra: Any
    ) -> Any:
        return self._met(
            of,
            extra,
            more.get("__module__"),
            lambda: class_making.make(kind, name, bases, more),
        )

    def _enum(
        self, bases: Any, name: str, full: str, members: Any, module: str, of: str, extra: Any
    ) -> Any:
        return self._met(
            of, extra, module, lambda: _make_enum(bases, name, full, members, module, None, None)
        )

    def _enum_with_members(
        self, bases: Any, name: str, full: str, found: Any, module: str, of: str, extra: Any
    ) -> Any:
        metaclass = extra.get("metaclass") if extra else None
        return self._met(
            of, extra, module, lambda: enums.make(bases, name, full, found, module, metaclass)
        )

    def _type_variable(
        self, name: str, bound: Any, constraints: Any, covariant: bool, contravariant: bool, of: str
    ) -> Any:
        # Those of arguments stay the same: a class that is known has them as its parameters.
        return self._met(
            of,
            {"version": 0},
            None,
            lambda: TypeVar(
                name,
                *constraints,
                bound=bound,
                covariant=covariant,
                contravariant=contravariant,
            ),
        )

    def _met(self, name: str, extra: Any, module: str | None, make: Callable[[], Any]) -> Any:
        extra = extra or {}
        found = self._arrival.find(name, extra, module)
        if found is not None:
            self._known[id(found)] = found
            return found
        made = make()
        self._arrival.add(name, extra, made)
        _track(name, made)
        return made

    def _fill_class(self, kind: Any, state: Any) -> Any:
        if id(kind) in self._known:
            return kind
        filled = cloudpickle._class_setstate(kind, state)
        enums.fill(kind, state[1])
        return filled

    def _function(self, code: CodeType, space: Any, name: Any, defaults: Any, closure: Any) -> Any:
        if closure is None:
            found = self._arrival.function(space.get("__name__"), code)
            if found is not None:
                self._known[id(found)] = found
                return found
        return _make_function(code, space, name, defaults, closure)

    def _fill_function(self, function: Any, state: Any) -> None:
        is_named = state[1].pop(_NAMED, False)
        if id(function) not in self._known:
            space, names = function.__globals__, state[1]["__globals__"]
            names = missing(names) if is_filled_up(space) else self._arrival.admit(space, names)
            state[1]["__globals__"] = names
            cloudpickle._function_setstate(function, state)
            if is_named:
                self._arrival.enter(function)


def _track(name: str, kind: type) -> None:
    """Have this process send the class on under the id that it came with."""
    with _id_lock:
        _by_id.setdefault(name, kind)
        _ids[kind] = name
