"""The environments that a node has for jobs with requirements, and those that are being made.

Until theirs is there, tasks are parked in the node's queue. They hold no slot there. The broker is told
of it, and gives the node others instead. Of those that came before it knew, the node keeps as many as it
has slots, and gives the rest back.
"""

from __future__ import annotations

from collections.abc import Callable

from manyhands_shared.protocol import messages as m
from manyhands_worker.core import effects
from manyhands_worker.core.events import EnvironmentMade
from manyhands_worker.core.model import Key
from manyhands_worker.core.scheduling.queue import QueuedTasks, TaskQueue


class Environments:
    """Has environments made that tasks need.

    Args:
        queue: of the node.
        out: what is to be done.
        slots: how many tasks may wait here for each environment.
        in_use: returns the environments that tasks here need.
    """

    def __init__(
        self,
        queue: TaskQueue,
        out: list[effects.Effect],
        slots: int,
        in_use: Callable[[], set[bytes]],
    ) -> None:
        self._queue = queue
        self._out = out
        self._slots = slots
        self._in_use = in_use
        self._made: set[bytes] = set()
        self._making: dict[bytes, None] = {}
        #: Whether one is being made, or was when the broker was told of slots last.
        self.active = False

    @property
    def waiting(self) -> int:
        """How many tasks wait for environments."""
        return sum(map(self._queue.missing_count, self._making)) if self._making else 0

    def is_made(self, environment: bytes) -> bool:
        """Whether tasks can run in it."""
        return environment in self._made

    def is_being_made(self, environment: bytes) -> bool:
        """Whether it will be there, or known not to be."""
        return environment in self._making

    def park(self, queued: QueuedTasks) -> None:
        """Keep tasks until their environment is there; have it made."""
        environment = queued.rules.environment
        self._queue.park(queued, environment)
        self.active = True
        if environment not in self._making:
            self._made &= self._in_use()
            # One that is being made may be there already, and the word of it on its way.
            keep = frozenset(self._made | self._making.keys())
            self._making[environment] = None
            self._out.append(effects.MakeEnvironment(environment, queued.rules.requirements, keep))
            self.tell()

    def made(self, event: EnvironmentMade) -> list[QueuedTasks]:
        """An environment is there, or cannot be. Return the tasks that waited for it."""
        self._making.pop(event.environment, None)
        if not event.reason:
            self._made.add(event.environment)
        self.tell()
        return self._queue.unpark(event.environment)

    def tell(self) -> None:
        """Tell the broker which are being made."""
        environments = b"".join([*self._making][: m.MAX_KEYS])
        self._out.append(effects.Send(m.Making(environments)))

    def tell_again(self) -> None:
        """Tell a broker that a new link leads to, if there is anything to tell."""
        if self._making:
            self.tell()

    def excess(self) -> list[tuple[Key, list[int]]]:
        """Take out tasks beyond those that may wait here."""
        taken: list[tuple[Key, list[int]]] = []
        for environment in self._making:
            count = self._queue.missing_count(environment) - self._slots
            if count > 0:
                taken += self._queue.take_back_missing(environment, count)
        return taken
