"""Tasks that could not begin, for a value that they refer to has not come yet.

A child that waits for a value keeps its slot from others. The client that has the value may take long:
it may be stopped, or busy. So the child gives such a task back after a moment, unstarted, and
the task waits here. When the value comes, it is run at once; if that takes long, the broker is told.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from manyhands_shared.payloads.payload import Payload
from manyhands_worker.core.model import Key
from manyhands_worker.core.scheduling.queue import QueuedTasks

#: A task that has waited here for this time goes back to the broker.
PATIENCE_SECONDS = 1.0
_NAME_BYTES = 16


class Value(NamedTuple):
    """A value's key, and the public name of the session that has it."""

    key: bytes
    owner: bytes


def whose(body: Payload) -> Value | None:
    """The value that a child names in place of a result; None if it names none."""
    if not isinstance(body, bytes) or len(body) != 2 * _NAME_BYTES:
        return None
    return Value(body[:_NAME_BYTES], body[_NAME_BYTES:])


@dataclass(slots=True)
class _Wait:
    """One task, and whose value it waits for, since when."""

    queued: QueuedTasks
    owner: bytes
    since: float


class AwaitingValues:
    """Tasks by the value that they wait for."""

    def __init__(self) -> None:
        self._waits: dict[bytes, list[_Wait]] = {}

    def __bool__(self) -> bool:
        return bool(self._waits)

    def add(self, value: Value, queued: QueuedTasks, now: float) -> None:
        """A task waits for a value."""
        self._waits.setdefault(value.key, []).append(_Wait(queued, value.owner, now))

    def arrived(self, value: bytes) -> list[QueuedTasks]:
        """A value is here, or never will be: take out the tasks that waited for it."""
        return [wait.queued for wait in self._waits.pop(value, ())]

    def overdue(self, now: float) -> dict[bytes, set[Key]]:
        """The jobs, by owner of the value, of tasks that have waited too long."""
        found: dict[bytes, set[Key]] = {}
        for wait in self._all():
            if now >= wait.since + PATIENCE_SECONDS:
                found.setdefault(wait.owner, set()).add(wait.queued.key)
        return found

    @property
    def due(self) -> float:
        """When `overdue` has something to say, if nothing comes."""
        if not self._waits:
            return math.inf
        return min(wait.since + PATIENCE_SECONDS for wait in self._all())

    def remove(self, key: Key, wanted: Collection[int]) -> list[int]:
        """Take out the tasks of `key` that are in `wanted`; returns which were there."""
        gone = []
        for value, waits in list(self._waits.items()):
            mine = [w for w in waits if w.queued.key == key and w.queued.indices[0] in wanted]
            if mine:
                gone += [wait.queued.indices[0] for wait in mine]
                self._waits[value] = [wait for wait in waits if wait not in mine]
                if not self._waits[value]:
                    del self._waits[value]
        return gone

    def take_all(self) -> list[QueuedTasks]:
        """Take out everything."""
        entries = list(self.entries())
        self._waits.clear()
        return entries

    def entries(self) -> Iterator[QueuedTasks]:
        """Everything in here."""
        return (wait.queued for wait in self._all())

    def _all(self) -> Iterator[_Wait]:
        return (wait for waits in self._waits.values() for wait in waits)
