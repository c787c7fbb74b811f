"""The functions and bundles that a node has, and the tasks that wait for theirs or an environment."""

from __future__ import annotations

from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol import messages as m
from manyhands_worker.core import effects
from manyhands_worker.core.environments import Environments
from manyhands_worker.core.events import EnvironmentMade
from manyhands_worker.core.scheduling.queue import QueuedTasks, TaskQueue
from manyhands_worker.function_cache import FunctionCache

#: What a node keeps of functions and bundles, by the size of their payloads.
FUNCTION_BYTES = 64 << 20


class CodeSupply:
    """Puts tasks into the node's queue once their code is here, and asks the broker for what is not.

    Args:
        queue: of the node.
        out: what is to be done.
        environments: of the node.
    """

    def __init__(
        self, queue: TaskQueue, out: list[effects.Effect], environments: Environments
    ) -> None:
        self._queue = queue
        self._environments = environments
        self._out = out
        self._functions: FunctionCache[Payload] = FunctionCache(FUNCTION_BYTES)

    def arrived(self, digest: bytes, payload: Payload) -> None:
        """A function or a bundle has come; tasks that waited for it can start."""
        self._functions.put(digest, payload, nbytes(payload))
        for queued in self._queue.unpark(digest):
            self.enqueue(queued)

    def made(self, event: EnvironmentMade, now: float) -> list[QueuedTasks]:
        """An environment is there; tasks that waited for it can start. If not, return them."""
        waited = self._environments.made(event, now)
        if event.reason:
            return waited
        for queued in waited:
            self.enqueue(queued)
        return []

    def enqueue(self, queued: QueuedTasks) -> None:
        """Put tasks in line, if all that they need is here. What has come for them they keep."""
        environment = queued.rules.environment
        if environment and not self._environments.is_made(environment):
            self._environments.park(queued)
            return
        missing = b""
        if not queued.code:
            if queued.function in self._functions:
                queued.code = self._functions.get(queued.function)
            else:
                missing = queued.function
        bundle = queued.rules.bundle
        if bundle and not queued.modules:
            if bundle in self._functions:
                queued.modules = self._functions.get(bundle)
            else:
                missing = missing or bundle
        if not missing:
            self._queue.append(queued)
        elif self._queue.park(queued, missing):
            self._ask(missing)

    def ask_again(self) -> None:
        """A link is new: ask once more for everything that tasks wait for."""
        for digest in self._queue.missing():
            if not self._environments.is_being_made(digest):
                self._ask(digest)
        self._environments.tell_again()

    def _ask(self, digest: bytes) -> None:
        self._out.append(effects.Send(m.Need(digest)))
