"""Records: dataclasses that do not change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a dataclass with slots, to whose fields type checkers let no code assign.

    At run time nothing guards them: a frozen dataclass takes four times as long to make, and there are
    half a dozen for each message. Comparison and `repr` are one for all, for the same reason.
    """
    own = vars(cls)
    made: Any = dataclass(slots=True, eq=False, repr=False)(cls)
    if "__eq__" not in own:
        made.__eq__, made.__hash__ = _equality(made), None
    if "__repr__" not in own:
        made.__repr__ = _describe
    return made  # type: ignore[no-any-return]


def _equality(kind: Any) -> Callable[[Any, Any], Any]:
    names = kind.__match_args__
    if not names:
        return lambda one, other: type(other) is type(one) or NotImplemented
    values = attrgetter(*names)

    def equal(one: Any, other: Any) -> Any:
        return values(one) == values(other) if type(other) is type(one) else NotImplemented

    return equal


def _describe(one: Any) -> str:
    values = ", ".join(f"{name}={getattr(one, name)!r}" for name in one.__match_args__)
    return f"{type(one).__qualname__}({values})"
