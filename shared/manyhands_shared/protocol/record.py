"""Records: dataclasses that nobody changes."""

from __future__ import annotations

from dataclasses import dataclass
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
        made.__eq__, made.__hash__ = _equal, None
    if "__repr__" not in own:
        made.__repr__ = _describe
    return made  # type: ignore[no-any-return]


def _equal(one: Any, other: Any) -> Any:
    if type(other) is not type(one):
        return NotImplemented
    names = one.__match_args__
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _describe(one: Any) -> str:
    values = ", ".join(f"{name}={getattr(one, name)!r}" for name in one.__match_args__)
    return f"{type(one).__qualname__}({values})"
