"""What a function payload may hold besides a plain function of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import starmap
from typing import Any


@dataclass(frozen=True, slots=True)
class Setup:
    """A function together with what a pool child must do before it runs it.

    The child calls ``initializer(*initargs)`` once per child and `key`, before its first task with
    that key; functions with equal keys share that one call. An initializer that raises fails the
    task (`Status.RAISED`, the message says so) and is tried again for the next one.
    """

    function: Callable[..., Any]
    initializer: Callable[..., Any]
    initargs: tuple[Any, ...]
    key: bytes


@dataclass(frozen=True, slots=True)
class MapChunk:
    """Calls a function once for each item of a chunk, and returns the list of what it returned."""

    function: Callable[..., Any]

    def __call__(self, items: Iterable[Any]) -> list[Any]:
        return list(map(self.function, items))


@dataclass(frozen=True, slots=True)
class StarmapChunk:
    """The same for items that are the arguments of a call each."""

    function: Callable[..., Any]

    def __call__(self, items: Iterable[Iterable[Any]]) -> list[Any]:
        return list(starmap(self.function, items))
