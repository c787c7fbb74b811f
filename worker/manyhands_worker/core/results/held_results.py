"""Results that are held for clients to fetch, until the broker says that they were taken.

To the broker such a task is not over: the node holds the attempt, and if it dies, the task runs
again. The outbox knows what the broker has been told of such a result. The result itself is here
from the report of the child until `Taken`, `Relay`, a cancellation or a welcome that does not keep it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from manyhands_shared.protocol.messages import Span, Stock
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import HeldResult, Key
from manyhands_worker.core.results.outbox import Ended
from manyhands_worker.core.task_set import TaskSet


class HeldResults:
    """Held results by task."""

    def __init__(self) -> None:
        self._tasks = TaskSet()
        self._results: dict[tuple[Key, int], HeldResult] = {}

    def add(self, key: Key, index: int, result: HeldResult) -> None:
        """A result is held."""
        self._tasks.add(key, [index])
        self._results[key, index] = result

    def matching(self, spans: Iterable[Span]) -> list[tuple[Key, set[int]]]:
        """The tasks in here that `spans` name."""
        return self._tasks.matching(spans)

    def take(self, key: Key, indices: Collection[int]) -> dict[int, HeldResult]:
        """Take out those of these tasks that are in here."""
        results = self._results
        taken = {index: results.pop((key, index)) for index in indices if (key, index) in results}
        self._tasks.discard(key, taken)
        return taken

    def stock(self, key: bytes) -> Stock:
        """The result that lies in the segment of this key, if it is held and can be read."""
        held = next((held for held in self._results.values() if held.key == key), None)
        if held is None:
            return Stock(key, [])
        try:
            # The segment may be written to again before a view of it has left.
            return Stock(key, [tuple(map(bytes, held.payload()))])
        except (OSError, ValueError):
            return Stock(key, [])

    def tasks(self) -> list[tuple[Key, set[int]]]:
        """Everything in here."""
        return self._tasks.items()

    def again(self) -> Iterator[Ended]:
        """All held results as they are told to a broker that may not know of them."""
        for (key, index), result in self._results.items():
            yield as_ended(key, index, result)


def as_ended(key: Key, index: int, result: HeldResult) -> Ended:
    """Return a result as it is told to the broker. The time it took was told with the first telling."""
    body = result.ticket
    return Ended(key, [index], bytes([Status.HELD]), [body], 0.0, len(body), 0, [])


def as_sent(key: Key, index: int, result: HeldResult) -> Ended:
    """Return a held result as it goes through the broker.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    payload = result.payload()
    ok = bytes([Status.OK])
    return Ended(key, [index], ok, [payload], 0.0, result.nbytes, len(payload), [result])
