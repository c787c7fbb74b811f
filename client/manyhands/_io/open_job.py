"""A job as the I/O thread serves it, and what becomes of its tasks' ends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Function

#: Called in a forked child before `Sink.orphan` of any job: they renew locks that another thread held.
before_orphans: list[Callable[[], None]] = []


class Input(Protocol):
    """The future of a task whose result another one has for an input. For the I/O thread."""

    def as_input(self) -> tuple[tuple[str, int], tuple[int, Payload] | None] | None:
        """Job and index of the task, and how it has ended if it has; `None`: it has no index yet."""


class Sink(Protocol):
    """Takes what comes back for one job, submitted here or only subscribed to.

    Called on the I/O thread; must be quick and never wait.
    """

    def accept(self, first: int, entries: Sequence[Any], /) -> None:
        """These tasks have the numbers `first`, `first + 1`, … from now on."""

    def reject(self, entries: Sequence[Any], payloads: Sequence[Payload], /) -> None:
        """These tasks came after the job or the session was closed. May come on any thread."""

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """These tasks have ended; each is told once."""

    def fail(self, error: BaseException) -> None:
        """Nothing more will come: whatever has not ended fails with `error`."""

    def orphan(self, error: BaseException, entries: Sequence[Any], /) -> None:
        """The same in a forked child, for these tasks too: take no lock there is, call nothing back."""

    @property
    def waits(self) -> bool:
        """Whether anybody may still want what has not ended."""
        return True


class OpenJob:
    """One job of this session: its id, function and options, and the sink of its results.

    Args:
        options: as they travel, but that `bundle` may be the bundle itself, to be sent if need be.
        on_journaled: called on the I/O thread when the broker's journal has the job as a whole. For a
            durable job whose results are not wanted here. Else they go to `sink`, as of any job.
    """

    __slots__ = (
        "cancelled",
        "closed",
        "function",
        "id",
        "on_journaled",
        "on_stay",
        "options",
        "sink",
        "tasks",
        "tasks_before_cell",
    )

    def __init__(
        self,
        function: Function,
        options: dict[str, Any],
        sink: Sink,
        on_journaled: Callable[[], None] | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self.function = function
        self.options = options
        self.sink = sink
        self.on_journaled = on_journaled
        #: Called on the I/O thread with a task that has ended, and whose result stays with its node.
        self.on_stay: Callable[[int], None] | None = None
        # What follows belongs to the I/O thread.
        self.closed = False
        self.cancelled = False
        #: How many it has had, and how many of these before the present cell of the notebook.
        self.tasks = self.tasks_before_cell = 0
