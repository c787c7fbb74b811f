"""What stands where programs look into the standard library's pools and executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class PoolSlot(NamedTuple):
    """Stand where libraries look for a child, to count the children."""

    name: str
    pid: None = None
    exitcode: None = None

    def is_alive(self) -> bool:
        """Return true: the node replaces a slot's child when it dies."""
        return True


class WaitingTasks:
    """Stand where programs look for the queue of tasks, to submit no more while it is long.

    Args:
        unended: gives the number of tasks that have not ended.
        slots: gives how many of them run at once.
    """

    def __init__(self, unended: Callable[[], int], slots: Callable[[], int]) -> None:
        self._unended = unended
        self._slots = slots

    def qsize(self) -> int:
        """Return how many tasks wait for a slot."""
        return max(0, self._unended() - self._slots())

    def empty(self) -> bool:
        """Return whether none waits."""
        return not self.qsize()

    def full(self) -> bool:
        """Return false: it has no end."""
        return False
