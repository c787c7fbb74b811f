"""Held results: told of by the broker, fetched from their nodes, and confirmed.

An offer is fetched once. When the result is here the broker is told (`Taken`), and says the last word.
Only then the task is done, with what was fetched of this very offer. What cannot be fetched is
asked for through the broker (`Relay`). Either may be lost with a link, and is said again then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from manyhands._session.effects import Deliver, Fetch
from manyhands._session.events import Fetched
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Relay, ResultGroup, Span, Status, Taken


@dataclass(slots=True)
class _Offer:
    """What was offered, and what has come of it: `settled`, with or without a payload."""

    attempt: int
    ticket: Payload
    settled: bool = False
    payload: Payload | None = None


class HeldResults:
    """Offers by task."""

    def __init__(self) -> None:
        self._offers: dict[tuple[str, int], _Offer] = {}

    def __bool__(self) -> bool:
        return bool(self._offers)

    def offered(
        self, job: str, attempt: int, index: int, ticket: Payload
    ) -> Fetch | Taken | Relay | None:
        """A node holds a result; what is to be done about it now."""
        known = self._offers.get((job, index))
        # Two brokers may have numbered two runs alike. What is here of one is as good as the other, and
        # the word about it is on its way or said already.
        if (
            known is not None
            and known.attempt == attempt
            and (known.ticket == ticket or known.payload is not None)
        ):
            return _verdict(job, index, known)
        self._offers[job, index] = _Offer(attempt, ticket)
        return Fetch(job, attempt, index, ticket)

    def fetched(self, event: Fetched) -> Taken | Relay | None:
        """A fetch is over; what to tell the broker, if it is still about the present offer."""
        known = self._offers.get((event.job, event.index))
        if known is None or (known.attempt, known.ticket) != (event.attempt, event.ticket):
            return None
        known.settled, known.payload = True, event.payload
        return _verdict(event.job, event.index, known)

    def again(self) -> Iterator[Taken | Relay]:
        """What the broker may not have heard, if it is the one of before."""
        for (job, index), offer in self._offers.items():
            verdict = _verdict(job, index, offer)
            if verdict is not None:
                yield verdict

    def fill(self, ended: Deliver, attempt: int) -> Deliver:
        """Put what was fetched in the place of what the broker left empty; forget the offers."""
        bodies = ended.bodies
        for place, index in enumerate(ended.indices):
            offer = self._offers.pop((ended.job, index), None)
            if offer is None or ended.statuses[place] != Status.OK or bodies[place] != b"":
                continue
            if offer.payload is not None and offer.attempt == attempt:
                bodies = [*bodies[:place], offer.payload, *bodies[place + 1 :]]
        return Deliver(ended.job, ended.indices, ended.statuses, bodies)


def split(group: ResultGroup) -> tuple[list[tuple[int, Payload]], ResultGroup]:
    """The held tasks of a group with their tickets, and the rest of it."""
    held: list[tuple[int, Payload]] = []
    places: list[int] = []
    for place, status in enumerate(group.statuses):
        if status == Status.HELD:
            held.append((group.indices[place], group.bodies[place]))
        else:
            places.append(place)
    return held, group.part(places)


def _verdict(job: str, index: int, offer: _Offer) -> Taken | Relay | None:
    if not offer.settled:
        return None
    spans = [Span(job, offer.attempt, [index])]
    return Relay(spans) if offer.payload is None else Taken(spans)
