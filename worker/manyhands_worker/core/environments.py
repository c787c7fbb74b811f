"""The environments that a node has for jobs with requirements, and those that are being made.

Until theirs is there, tasks are parked in the node's queue. They hold no slot there. The broker is told
of it, and gives the node others instead. Of those that came before it knew, the node keeps as many as it
has slots, and gives the rest back.

Where one cannot be made, these tasks fail, and so do others that come in the next while: the installer
is not run for each. The broker is told of that before, so that it gives them to other nodes.
"""

from __future__ import annotations

from collections.abc import Callable

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_worker.core import effects
from manyhands_worker.core.events import EnvironmentMade
from manyhands_worker.core.failures import no_environment
from manyhands_worker.core.model import Key
from manyhands_worker.core.scheduling.queue import QueuedTasks, TaskQueue

#: For so long it counts that one could not be made.
FAILED_SECONDS = 30.0


class Environments:
    """Has environments made that tasks need.

    Args:
        node: its name.
        queue: of the node.
        out: what is to be done.
        slots: how many tasks may wait here for each environment.
        in_use: returns the environments that tasks here need.
    """

    def __init__(
        self,
        node: str,
        queue: TaskQueue,
        out: list[effects.Effect],
        slots: int,
        in_use: Callable[[], set[bytes]],
    ) -> None:
        self._node = node
        self._queue = queue
        self._out = out
        self._slots = slots
        self._in_use = in_use
        self._made: set[bytes] = set()
        self._making: dict[bytes, None] = {}
        # Until when it counts, and why.
        self._failed: dict[bytes, tuple[float, str]] = {}
        #: Whether `turn` has something to do, or had when the broker was told of slots last.
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

    def failure(self, environment: bytes) -> Failure | None:
        """Return how tasks end here, if it could not be made lately."""
        if environment not in self._failed:
            return None
        return no_environment(self._node, self._failed[environment][1])

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

    def made(self, event: EnvironmentMade, now: float) -> list[QueuedTasks]:
        """An environment is there, or cannot be. Return the tasks that waited for it."""
        environment = event.environment
        self._making.pop(environment, None)
        if event.reason:
            self._failed[environment] = now + FAILED_SECONDS, event.reason
            self.active = True
            if len(self._failed) > m.MAX_KEYS:
                del self._failed[next(iter(self._failed))]
        else:
            self._made.add(environment)
        self.tell()
        return self._queue.unpark(environment)

    def turn(self, now: float) -> None:
        """Forget failures that count no more."""
        self.active = bool(self.waiting or self._failed)
        over = [name for name, (until, _) in self._failed.items() if now >= until]
        for environment in over:
            del self._failed[environment]
        if over:
            self.tell()

    def tell(self) -> None:
        """Tell the broker which are being made, and which could not be."""
        making, failed = ([*table][: m.MAX_KEYS] for table in (self._making, self._failed))
        self._out.append(effects.Send(m.Making(b"".join(making), b"".join(failed))))

    def tell_again(self) -> None:
        """Tell a broker that a new link leads to, if there is anything to tell."""
        if self._making or self._failed:
            self.tell()

    def excess(self) -> list[tuple[Key, list[int]]]:
        """Take out tasks beyond those that may wait here."""
        taken: list[tuple[Key, list[int]]] = []
        for environment in self._making:
            count = self._queue.missing_count(environment) - self._slots
            if count > 0:
                taken += self._queue.take_back_missing(environment, count)
        return taken
