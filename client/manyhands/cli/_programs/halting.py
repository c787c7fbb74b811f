"""When to stop before the end: ``--halt now,fail=1``, as GNU parallel has it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from manyhands_shared.errors import ConfigError

if TYPE_CHECKING:
    from manyhands.cli._programs.ending import Ending

_FORM = re.compile(r"(now|soon),(fail|success|done)=(\d+)(%?)")


@dataclass(slots=True)
class Halting:
    """Counts the ends of programs.

    Args:
        now: whether those that run are to be killed.
        what: "fail", "success" or "done".
        limit: how many of these end it all; 0: none do.
        percent: the limit as a share of all tasks instead, until `count_of` has told how many these are.
    """

    now: bool = False
    what: str = "fail"
    limit: int = 0
    percent: int = 0
    _count: int = field(default=0, init=False)

    @staticmethod
    def parse(text: str) -> Halting:
        """Read the option.

        Raises:
            ConfigError: it is not of that form.
        """
        if text == "never":
            return Halting()
        match = _FORM.fullmatch(text)
        if match is None or not int(match[3]) or (match[4] and int(match[3]) > 100):
            raise ConfigError(
                f"--halt {text!r} is not of the form soon,fail=1, now,success=3, soon,fail=10% or never"
            )
        number = int(match[3])
        limits = {"percent": number} if match[4] else {"limit": number}
        return Halting(match[1] == "now", match[2], **limits)

    def count_of(self, tasks: int) -> None:
        """Take a share of this number of tasks as the limit."""
        self.limit = max(1, math.ceil(tasks * self.percent / 100))

    def counts(self, ending: Ending) -> bool:
        """Count one end; whether it is the one at which to stop."""
        if ending.cancelled:
            return False
        counted = self.what == "done" or (self.what == "fail") == bool(ending.failure)
        self._count += counted
        return counted and self._count == self.limit
