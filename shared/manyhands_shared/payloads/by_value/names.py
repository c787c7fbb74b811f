"""Objects of the script that pickle as a name in it: types of `typing`, singletons of own classes.

Their `__reduce__` returns that name. A child has no script to find it in, so they go by value, and take
the place of their name there. An argument meets what the function has by that name.
"""

from __future__ import annotations

from typing import Any

from manyhands_shared.payloads.by_value.main_module import script

_MAIN = "__main__"
_TYPING = ("typing", "typing_extensions")
#: Of classes whose objects may be such.
_MODULES = frozenset({_MAIN, *_TYPING})


def reduce(obj: Any) -> Any:
    """Return how to pickle such an object by value; for others what their own way gives."""
    kind: Any = type(obj)
    usual = kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__
    if usual or kind.__module__ not in _MODULES or isinstance(obj, type):
        return NotImplemented
    # An instance finds the module of its class, too.
    if getattr(obj, "__module__", None) != _MAIN:
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    if type(reduced) is not str:
        return reduced
    state = {**getattr(obj, "__dict__", {})}
    return _found, (reduced, *_made(obj)), state or None, None, None, _fill


def _made(obj: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return what makes an object like it, and with which arguments."""
    kind = type(obj)
    if kind.__module__ in _TYPING:
        # Of a `NewType`, and of what `type` makes from Python 3.12 on.
        of = [getattr(obj, name) for name in ("__supertype__", "__value__") if hasattr(obj, name)]
        return kind, (obj.__name__, *of)
    return object.__new__, (kind,)


def _found(name: str, make: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what the script here has by that name, or make it."""
    main = script.main
    there = None if main is None else vars(main).get(name)
    kind = arguments[0] if make is object.__new__ else make
    return there if type(there) is kind else make(*arguments)


def _fill(obj: Any, state: dict[str, Any]) -> None:
    vars(obj).update(state)
