"""Classes and functions that travel by value: which ones they become where they arrive.

cloudpickle sends a class of a script with all that it holds, under an id. Where that id is known it
writes the class anew with what came. So a result would reset the attributes of the client's own class,
and give its methods copied globals. In a child, the class of one function would become the class of
another one. Here a class that is known is left as it is, and an `Arrival` says which are known:

- at home, in a client: its own classes and functions, by id, else by their name in their module;
- with a function that comes to a child: none. Its classes are its own, as it was when it was submitted;
- with arguments: the classes and functions that came with the function that they are for; other classes
  by id and version;
- with what comes while it runs: its classes, and then as at home.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import CodeType, FunctionType
from typing import Any, Protocol, TypeVar

from manyhands_shared.payloads.by_value.main_module import Main

#: What has an id: type variables too.
_KINDS: tuple[type, ...] = (type, TypeVar)
#: Classes of arguments alone that a child remembers.
_MAX_GUESTS = 1_000
#: Classes that came with arguments alone, by id, with their versions.
Guests = OrderedDict[str, tuple[int | None, type]]


class Arrival(Protocol):
    """Says what classes and functions become that arrive."""

    def find(self, name: str, extra: dict[str, Any], module: str | None) -> type | None:
        """Return the class of this id if it is known; it is left as it is then."""

    def add(self, name: str, extra: dict[str, Any], kind: type) -> None:
        """Remember a class that was made."""

    def function(self, module: str | None, code: CodeType) -> FunctionType | None:
        """Return the function with this code if it is known."""

    def enter(self, function: FunctionType) -> None:
        """Take note of a function that was made, and that the script has by its name."""

    def admit(self, space: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        """Return what the globals of a function are filled with, of what it brings."""


class Home:
    """At a client: what comes back meets what it was made from."""

    def find(self, name: str, extra: dict[str, Any], module: str | None) -> type | None:
        """See `Arrival`."""
        from cloudpickle import cloudpickle  # noqa: PLC0415 - loaded where there is such a pickle

        with cloudpickle._DYNAMIC_CLASS_TRACKER_LOCK:
            known: type | None = cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.get(name)
        if not isinstance(known, _KINDS):
            known = _named(module, extra.get("qualname", ""))
        return known if isinstance(known, _KINDS) else None

    def add(self, name: str, extra: dict[str, Any], kind: type) -> None:
        """See `Arrival`."""

    def function(self, module: str | None, code: CodeType) -> FunctionType | None:
        """See `Arrival`."""
        found = _named(module, code.co_qualname)
        return found if type(found) is FunctionType and found.__code__ == code else None

    def enter(self, function: FunctionType) -> None:
        """See `Arrival`."""

    def admit(self, _space: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        """See `Arrival`."""
        return names


HOME = Home()


class World:
    """In a child: the classes that came with one function. An `Arrival` for that function itself.

    Args:
        guests: of the child.
    """

    __slots__ = ("arguments", "classes", "main", "running")

    def __init__(self, guests: Guests) -> None:
        #: What tasks find of the script.
        self.main = Main()
        #: By id.
        self.classes: dict[str, type] = {}
        #: For what the function is called with.
        nested: dict[str, type] = {}
        self.arguments: Arrival = _Arguments(self.classes, guests, self.main, nested)
        #: For what comes while it runs.
        self.running: Arrival = _Running(self.classes)
        self.main.arrival = _Further(self.classes, nested)

    def find(self, name: str, _extra: dict[str, Any], _module: str | None) -> type | None:
        """See `Arrival`."""
        return self.classes.get(name)

    def add(self, name: str, _extra: dict[str, Any], kind: type) -> None:
        """See `Arrival`."""
        self.classes[name] = kind

    def function(self, module: str | None, code: CodeType) -> FunctionType | None:
        """See `Arrival`. It is known if what the function travels in is loaded once more."""
        is_known = self.main.only_adds and module == "__main__"
        return self.main.own_function(code) if is_known else None

    def enter(self, _function: FunctionType) -> None:
        """See `Arrival`: what came along with the function is entered by `main_module.restore`."""

    def admit(self, _space: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        """See `Arrival`."""
        return names


class _Arguments:
    __slots__ = ("_classes", "_guests", "_main", "_nested")

    def __init__(
        self, classes: dict[str, type], guests: Guests, main: Main, nested: dict[str, type]
    ) -> None:
        self._classes = classes
        self._guests = guests
        self._main = main
        self._nested = nested

    def find(self, name: str, extra: dict[str, Any], _module: str | None) -> type | None:
        found = self._classes.get(name)
        if found is None and name in self._guests:
            version, guest = self._guests[name]
            if version is not None and version == extra.get("version"):
                self._guests.move_to_end(name)
                self._enter(name, extra, guest)
                return guest
        return found

    def add(self, name: str, extra: dict[str, Any], kind: type) -> None:
        self._guests[name] = extra.get("version"), kind
        self._enter(name, extra, kind)
        self._guests.move_to_end(name)
        if len(self._guests) > _MAX_GUESTS:
            self._guests.popitem(last=False)

    def _enter(self, name: str, extra: dict[str, Any], kind: type) -> None:
        if extra.get("named"):
            self._main.receive(extra["qualname"], kind)
        elif "." in extra.get("qualname", ""):
            if len(self._nested) > _MAX_GUESTS:
                self._nested.clear()
            self._nested[name] = kind

    def function(self, module: str | None, code: CodeType) -> FunctionType | None:
        return self._main.own_function(code) if module == "__main__" else None

    def enter(self, function: FunctionType) -> None:
        self._main.enter(function)

    def admit(self, space: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        return self._main.admit(names) if space is vars(self._main) else names


class _Running:
    __slots__ = ("_classes",)

    def __init__(self, classes: dict[str, type]) -> None:
        self._classes = classes

    def find(self, name: str, extra: dict[str, Any], module: str | None) -> type | None:
        return self._classes.get(name) or HOME.find(name, extra, module)

    def add(self, name: str, extra: dict[str, Any], kind: type) -> None:
        HOME.add(name, extra, kind)

    def function(self, module: str | None, code: CodeType) -> FunctionType | None:
        return HOME.function(module, code)

    def enter(self, function: FunctionType) -> None:
        HOME.enter(function)

    def admit(self, space: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
        return HOME.admit(space, names)


class _Further(_Running):
    """For classes that came with a function and are loaded when asked for: they are its own.

    The process may know one of that id from another function, as it was then. A class inside of one is
    that of the arguments that it came with before: an instance of it is asking.
    """

    __slots__ = ("_nested",)

    def __init__(self, classes: dict[str, type], nested: dict[str, type]) -> None:
        super().__init__(classes)
        self._nested = nested

    def find(self, name: str, extra: dict[str, Any], module: str | None) -> type | None:
        known: type | None = self._classes.get(name) or self._nested.get(name)
        if not isinstance(known, _KINDS):
            known = _named(module, extra.get("qualname", ""))
        return known if isinstance(known, _KINDS) else None

    def add(self, name: str, _extra: dict[str, Any], kind: type) -> None:
        self._classes[name] = kind


def _named(module: str | None, qualname: str) -> Any:
    """What a module calls so; `None` if nothing."""
    found: Any = sys.modules.get(module or "")
    for part in qualname.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found
