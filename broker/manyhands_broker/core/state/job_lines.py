"""A line of the log for each job's begin and end, but no flood of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from manyhands_shared.text import amount

#: Lines in a second. Programs that make thousands of short jobs a second would fill the disk.
LINES_A_SECOND = 20


class JobLines:
    """Says when jobs begin and end; of too many in a second, how many there were.

    Args:
        say: tells the operator.
    """

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._second = -1
        self._said = 0
        self._left_out = 0

    def tell(self, job: str, text: str, now: float) -> None:
        """Say that a job, of this id, began or ended."""
        if int(now) != self._second:
            if self._left_out:
                self._say(logging.INFO, f"{amount(self._left_out, 'more job')} began or ended")
            self._second, self._said, self._left_out = int(now), 0, 0
        if self._said < LINES_A_SECOND:
            self._said += 1
            self._say(logging.INFO, text, job=job)
        else:
            self._left_out += 1
