"""When empty slots get a child, and what becomes of a node whose children do not come up."""

from __future__ import annotations

from collections import Counter

#: A child that lived this time did not die of its start.
HEALTHY_SECONDS = 1.0
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
#: The first children of a slot that die young are replaced at once; those after them must wait.
_AT_ONCE = 2
#: After this number of failed starts in a row, and without a child, the node cannot work.
_BARREN = 3


class Births:
    """The slots that are to be filled, and how often that has failed.

    Args:
        slots: are filled at once.
    """

    def __init__(self, slots: int) -> None:
        #: When each empty slot may be filled.
        self.due = dict.fromkeys(range(slots), 0.0)
        #: Children in a row that never were ready for work.
        self.failed = 0
        # Failures in a row, by slot.
        self._failures: Counter[int] = Counter()
        # The node is known to have no child.
        self._unable = False

    def next_delay(self, slot: int) -> float:
        """Count a failure of a slot; return the seconds until the next attempt."""
        self._failures[slot] += 1
        return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (self._failures[slot] - 1))

    def after_death(self, slot: int, *, healthy: bool) -> float:
        """Return the seconds until a dead child is replaced.

        Args:
            slot: the child's.
            healthy: it did not die of its start.
        """
        if healthy:
            self._failures[slot] = 0
            return 0.0
        delay = self.next_delay(slot)
        return delay if self._failures[slot] > _AT_ONCE else 0.0

    def fail(self, *, without_children: bool) -> bool:
        """Count a child that never was ready; return whether the node cannot work from now on."""
        self.failed += 1
        if self.failed < _BARREN or self._unable or not without_children:
            return False
        self._unable = True
        return True

    def succeed(self) -> bool:
        """A child is ready for work. Return whether the node could not work until now."""
        self.failed = 0
        was_unable, self._unable = self._unable, False
        return was_unable
