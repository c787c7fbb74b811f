"""What the children of a node run just now, looked at twice a second where tasks take that long."""

from __future__ import annotations

from collections.abc import Iterable

from manyhands_worker.core.events import Running, RunningTask
from manyhands_worker.ipc.control_block import STARTED
from manyhands_worker.pool.child_handle import ChildHandle

#: The least time between two looks.
INTERVAL = 0.5
#: What has run for this time is told of while it runs.
TOLD_SECONDS = 0.5


class RunningTasks:
    """Tells what has changed since the last look."""

    def __init__(self) -> None:
        self._next = 0.0
        self._tasks: list[RunningTask] = []

    def __bool__(self) -> bool:
        """Whether something ran when it was looked at last."""
        return bool(self._tasks)

    def look(self, children: Iterable[ChildHandle | None], now: float) -> list[Running]:
        """Return what runs, in one event; nothing where that was told, or it is too early."""
        if now < self._next:
            return []
        self._next = now + INTERVAL
        tasks = [task for child in children if child is not None for task in _long(child, now)]
        changed = [one[:3] for one in tasks] != [one[:3] for one in self._tasks]
        self._tasks = tasks
        return [Running(tasks)] if changed else []


def _long(child: ChildHandle, now: float) -> list[RunningTask]:
    """Return the task that a child is in, if it has been for long."""
    claim, begun, task = child.claim, child.words[STARTED] / 1e9, child.task
    # Between two tasks, these may be of different ones.
    if task is None or claim != child.claim or now - begun < TOLD_SECONDS:
        return []
    return [RunningTask(*task, child.slot, begun, child.rss >> 10)]
