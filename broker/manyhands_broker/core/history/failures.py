"""Failures of a job's tasks: the first ones each by itself, and all grouped by what was raised."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

from manyhands_shared.protocol.failure import Failure

#: Failures that are told each by itself; kinds that are told apart; tasks that are named of each.
MOST_FAILURES = 100
MOST_GROUPS = 24
MOST_TASKS = 20
#: Characters of a message, and of a traceback: its end, which says most.
MESSAGE_CHARS = 300
TRACEBACK_CHARS = 4_000
#: Failures that are looked into each second; the others are counted only.
LOOKS = 200
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?")


class FailedRun(NamedTuple):
    """One attempt that did not end well. `what`: failed, retried, crashed, timed out or lost."""

    task: int
    attempt: int
    node: str
    at: float
    what: str
    error: str


class Group:
    """Failures of one exception whose messages differ in numbers alone."""

    __slots__ = ("count", "first", "last", "message", "tasks", "traceback", "type")

    def __init__(self, failure: Failure, now: float) -> None:
        self.type = failure.type[:MESSAGE_CHARS]
        self.message = failure.message[:MESSAGE_CHARS]
        self.traceback = failure.traceback[-TRACEBACK_CHARS:]
        self.count = 0
        self.tasks: list[int] = []
        self.first = self.last = now

    def told(self, epoch: float) -> dict[str, Any]:
        """Return it in plain values."""
        return {
            "type": self.type,
            "message": self.message,
            "count": self.count,
            "tasks": sorted(self.tasks),
            "traceback": self.traceback,
            "first": self.first + epoch,
            "last": self.last + epoch,
        }


class Failures:
    """What is kept of a job's failures."""

    __slots__ = ("_looks", "_second", "counts", "first", "groups", "others")

    def __init__(self) -> None:
        #: How many there were of each kind.
        self.counts: Counter[str] = Counter()
        self.first: list[FailedRun] = []
        self.groups: dict[tuple[str, str], Group] = {}
        #: Those that no group counts: too many kinds, or too many in a second.
        self.others = 0
        self._second, self._looks = -1, 0

    def looks(self, now: float) -> bool:
        """Count a look into a failure; return whether there may be one."""
        if int(now) != self._second:
            self._second, self._looks = int(now), 0
        self._looks += 1
        return self._looks <= LOOKS

    def add(
        self,
        what: str,
        attempt: tuple[int, int],
        node: str,
        now: float,
        failure: Failure | None,
    ) -> None:
        """Take a failure in; `failure` is what it says, `None` if that was not looked into."""
        self.counts[what] += 1
        index, number = attempt
        error = ""
        if failure is None:
            self.others += 1
        else:
            error = f"{failure.type.rpartition('.')[2]}: {failure.message}"[:MESSAGE_CHARS]
            self._group(failure, index, now)
        if len(self.first) < MOST_FAILURES:
            self.first.append(FailedRun(index, number, node, now, what, error))

    def _group(self, failure: Failure, index: int, now: float) -> None:
        key = (failure.type, _NUMBER.sub("#", failure.message[:MESSAGE_CHARS]))
        group = self.groups.get(key)
        if group is None:
            if len(self.groups) >= MOST_GROUPS:
                self.others += 1
                return
            group = self.groups[key] = Group(failure, now)
        group.count += 1
        group.last = now
        if len(group.tasks) < MOST_TASKS and index not in group.tasks:
            group.tasks.append(index)
