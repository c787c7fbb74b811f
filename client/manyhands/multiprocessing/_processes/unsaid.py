"""What finalizers leave to say. They may run in the middle of anything; an operation says it later."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def taken(waiting: deque[T]) -> Iterator[T]:
    """Take what waits there now. Other threads may take some of it meanwhile."""
    for _ in range(len(waiting)):
        try:
            one = waiting.popleft()
        except IndexError:
            return
        yield one
