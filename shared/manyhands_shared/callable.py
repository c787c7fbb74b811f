"""What a function payload may hold besides a plain callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
