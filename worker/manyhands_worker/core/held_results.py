"""Results that are held for clients to fetch, until the broker says that they were taken.

To the broker such a task is not over: the node holds the attempt, and if it dies, the task runs
again. What the broker has been told of an offer is the outbox's business; the offer itself is here
from the report of the child until `Taken`, `Relay`, a cancellation or a welcome that does not keep it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from manyhands_shared.protocol.messages import Span
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.events import Key, Offer
from manyhands_worker.core.outbox import Ended
from manyhands_worker.core.task_set import Held


class Offers:
    """Offers by task."""

    def __init__(self) -> None:
        self._tasks = Held()
        self._offers: dict[tuple[Key, int], Offer] = {}

    def add(self, key: Key, index: int, offer: Offer) -> None:
        """A result is held."""
        self._tasks.add(key, [index])
        self._offers[key, index] = offer

    def matching(self, spans: Iterable[Span]) -> list[tuple[Key, set[int]]]:
        """The tasks in here that `spans` name."""
        return self._tasks.matching(spans)

    def take(self, key: Key, indices: Collection[int]) -> dict[int, Offer]:
        """Take out those of these tasks that are in here."""
        offers = self._offers
        taken = {index: offers.pop((key, index)) for index in indices if (key, index) in offers}
        self._tasks.discard(key, taken)
        return taken

    def tasks(self) -> list[tuple[Key, set[int]]]:
        """Everything in here."""
        return self._tasks.items()

    def again(self) -> Iterator[Ended]:
        """All offers as they are told to a broker that may not know of them."""
        for (key, index), offer in self._offers.items():
            yield held(key, index, offer)


def held(key: Key, index: int, offer: Offer) -> Ended:
    """An offer as it is told to the broker. The time it took was told with the first telling."""
    body = offer.ticket
    return Ended(key, [index], bytes([Status.HELD]), [body], 0.0, len(body), 0, [])
