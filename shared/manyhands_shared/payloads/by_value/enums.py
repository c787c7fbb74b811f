"""Enumerations that travel by value: their members arrive as they are, without code of their own.

cloudpickle makes a member anew of its value. That loses what `__init__` and `__new__` have made of it,
its other names, and what was set on it later.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, EnumMeta
from typing import Any, NamedTuple

from cloudpickle import cloudpickle

from manyhands_shared.payloads.by_value import class_making

#: What the machinery of `enum` sets on each member.
_OF_ENUM = frozenset({"_name_", "_value_", "__objclass__", "_sort_order_", "_inverted_"})
#: What stands in the class for its making alone. `enum` itself has replaced `__new__` by then.
_TEMPORARY = ("__init__", "__new_member__")


class Member(NamedTuple):
    """One name in an enumeration: what its data type is made of, and its value."""

    made_of: tuple[Any, ...]
    value: Any


def members(kind: type[Enum]) -> dict[str, Member] | None:
    """Return the members as they travel; None where its data type cannot be made here anew."""
    base: Any = kind._member_type_  # type: ignore[attr-defined]
    found: dict[str, Member] = {}
    for name, member in kind.__members__.items():
        if base.__new__ is object.__new__:
            made_of: tuple[Any, ...] = ()
        elif hasattr(base, "__getnewargs__"):
            made_of = tuple(base.__getnewargs__(member))
        else:
            maker, *rest = base.__reduce_ex__(member, 2)
            if maker is not kind or not rest:
                return None
            made_of = rest[0]
        found[name] = Member(made_of, member._value_)
    return found


def attributes(kind: type[Enum]) -> dict[str, dict[str, Any]]:
    """Return what else each member has, by its name. It may refer to the class."""
    found = {
        name: {key: value for key, value in vars(member).items() if key not in _OF_ENUM}
        for name, member in kind.__members__.items()
    }
    return {name: values for name, values in found.items() if values}


def make(
    bases: tuple[Any, ...],
    name: str,
    full: str,
    found: Mapping[str, Member],
    module: str,
    metaclass: Any = None,
) -> EnumMeta:
    """Make the class with its members, as `enum` makes them, but for the code of its own.

    That includes the code of a metaclass that travels by value, too.
    """
    metaclass = metaclass or type(bases[-1])
    native: Any = class_making.native(metaclass)
    space = native.__prepare__(name, bases)

    def new(kind: Any, member: Any) -> Any:
        base = kind._member_type_
        # `enum` has one more tuple around what a tuple is made of.
        token = (member[0] if type(member) is tuple else member).token
        made = base.__new__(kind, *token.made_of)
        made._value_ = token.value
        return made

    space["__new__"] = new
    space["__init__"] = lambda *_: None
    for key, member in found.items():
        space[key] = _Token(member)
    kind: EnumMeta = native.__new__(metaclass, name, bases, space)
    kind.__module__, kind.__qualname__ = module, full
    for temporary in _TEMPORARY:
        if temporary in vars(kind):
            type.__delattr__(kind, temporary)
    return kind


def skeleton(
    bases: Any, name: str, full: str, found: Mapping[str, Member], module: str, of: str, extra: Any
) -> Any:
    """Make an enumeration where plain `pickle` loads it. A `Finder` has its own way."""
    metaclass = extra.get("metaclass") if extra else None
    made = make(bases, name, full, found, module, metaclass)
    return cloudpickle._lookup_class_or_track(of, made)


def fill_class(kind: Any, state: tuple[Any, Any]) -> Any:
    """Give a class its attributes, and members theirs, where plain `pickle` loads it."""
    filled = cloudpickle._class_setstate(kind, state)
    fill(filled, state[1])
    return filled


class _Token:
    """Stands for a member's value while the class is made: a tuple would be taken apart."""

    def __init__(self, token: Member) -> None:
        self.token = token


def fill(kind: Any, state: Mapping[str, Any]) -> None:
    """Give the members what else they have, if this is the second part of an enumeration's state."""
    for name, values in state.get("members", {}).items():
        vars(kind.__members__[name]).update(values)
