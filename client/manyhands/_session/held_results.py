"""Held results: told of by the broker, fetched from their nodes, and confirmed.

An offer is fetched once. When the result is here the broker is told (`Taken`), and says the last word.
Only then the task is done, with what was fetched of this very offer. What cannot be fetched is
asked for through the broker (`Relay`). Either may be lost with a link, and is said again then.

A result that other tasks have for an input stays with its node. It is fetched when the user asks for it,
or when no task needs it any more and its job is closed. It is delivered at once then, and the broker is
told when no task needs it. If the user has dropped it by then, it is let go of unfetched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from manyhands._session.effects import Deliver, Fetch
from manyhands._session.events import Fetched
from manyhands._session.inputs.task_results import Task, TaskResults
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Relay, ResultGroup, Span, Status, Taken

#: What is to be done about an offer.
Step = Fetch | Taken | Relay


@dataclass(slots=True)
class _Offer:
    """What was offered, and what has come of it: `settled`, with or without a payload."""

    attempt: int
    ticket: Payload
    fetching: bool = False
    settled: bool = False
    payload: Payload | None = None
    #: The user has the result, of this offer or of one before.
    delivered: bool = False


class HeldResults:
    """Offers by task.

    Args:
        results: which of them tasks need.
    """

    def __init__(self, results: TaskResults) -> None:
        self._results = results
        self._offers: dict[Task, _Offer] = {}
        #: Those of them that no fetch has begun for, and those that the user has and tasks need.
        self._resting: dict[Task, None] = {}
        self._delivered: dict[Task, None] = {}
        #: What comes here though tasks need it, to make room in the window.
        self._forced: set[Task] = set()
        #: Results for which the user has asked, or which the user has dropped.
        self._asked: set[Task] = set()
        self._dropped: set[Task] = set()

    def __bool__(self) -> bool:
        return bool(self._offers or self._asked or self._dropped)

    @property
    def staying(self) -> int:
        """How many stay with their nodes, and nothing here waits for them."""
        return len(self._resting)

    def rests(self, task: Task) -> bool:
        """Whether a result stays with its node, and no fetch has begun for it."""
        return task in self._resting

    def offered(
        self, job: str, attempt: int, index: int, ticket: Payload, *, closed: bool
    ) -> Step | None:
        """A node holds a result; what is to be done about it now. `closed`: the job is."""
        known = self._offers.get((job, index))
        # Two brokers may have numbered two runs alike. What is here of one is as good as the other, and
        # the word about it is on its way or said already.
        if (
            known is None
            or known.attempt != attempt
            or (known.ticket != ticket and known.payload is None)
        ):
            delivered = known is not None and known.delivered
            self._pop((job, index))
            known = self._offers[job, index] = _Offer(attempt, ticket, delivered=delivered)
            self._resting[job, index] = None
        return self._step((job, index), known, closed=closed)

    def fetched(self, event: Fetched) -> Taken | Relay | Deliver | None:
        """A fetch is over; what to tell the broker or the user, if it is about the present offer."""
        task = event.job, event.index
        known = self._offers.get(task)
        if known is None or (known.attempt, known.ticket) != (event.attempt, event.ticket):
            return None
        known.settled, known.payload = True, event.payload
        stays = task in self._results.needed and task not in self._forced
        if event.payload is not None and stays and not known.delivered:
            known.delivered = True
            self._delivered[task] = None
            return Deliver(event.job, [event.index], bytes([Status.OK]), [event.payload])
        return self._verdict(task, known)

    def ask(self, task: Task) -> Step | None:
        """The user wants a result."""
        self._asked.add(task)
        return self.look(task, closed=False)

    def drop(self, task: Task) -> Step | None:
        """The user does not want a result any more."""
        self._dropped.add(task)
        return self.look(task, closed=False)

    def relieve(self) -> Step | None:
        """Bring the oldest result that stays with its node, unless one comes already."""
        task = next(iter(self._delivered or self._resting), None)
        if self._forced or task is None:
            return None
        self._forced.add(task)
        return self._step(task, self._offers[task], closed=True)

    def look(self, task: Task, *, closed: bool) -> Step | None:
        """What is to be done about an offer, if there is one."""
        offer = self._offers.get(task)
        return None if offer is None else self._step(task, offer, closed=closed)

    def of_job(self, job: str) -> list[Task]:
        """The offers of a job."""
        return [task for task in self._offers if task[0] == job]

    def again(self) -> Iterator[Taken | Relay]:
        """What the broker may not have heard, if it is the one of before."""
        for task, offer in self._offers.items():
            verdict = self._verdict(task, offer)
            if verdict is not None:
                yield verdict

    def fill(self, ended: Deliver, attempt: int) -> Deliver:
        """Put what was fetched in the place of what the broker left empty."""
        bodies = ended.bodies
        for place, index in enumerate(ended.indices):
            offer = self._offers.get((ended.job, index))
            if offer is None or ended.statuses[place] != Status.OK or bodies[place] != b"":
                continue
            if offer.payload is not None and (offer.attempt == attempt or offer.delivered):
                bodies = [*bodies[:place], offer.payload, *bodies[place + 1 :]]
        return Deliver(ended.job, ended.indices, ended.statuses, bodies)

    def forget(self, ended: Deliver) -> Deliver | None:
        """Forget the offers of tasks that have ended; return what the user does not have yet."""
        fresh = []
        for place, index in enumerate(ended.indices):
            task = ended.job, index
            offer = self._pop(task)
            self._asked.discard(task)
            self._dropped.discard(task)
            if offer is None or not offer.delivered:
                fresh.append(place)
        if len(fresh) == len(ended.indices):
            return ended
        return _part(ended, fresh) if fresh else None

    def _step(self, task: Task, offer: _Offer, *, closed: bool) -> Step | None:
        if offer.settled or offer.fetching:
            return self._verdict(task, offer)
        forced = task in self._forced
        if (offer.delivered or task in self._dropped) and not forced:
            return None if task in self._results.needed else _taken(task, offer)
        if not (forced or task in self._asked) and (
            task in self._results.needed or (task in self._results.inputs and not closed)
        ):
            return None
        offer.fetching = True
        del self._resting[task]
        return Fetch(task[0], offer.attempt, task[1], offer.ticket)

    def _verdict(self, task: Task, offer: _Offer) -> Taken | Relay | None:
        if not offer.settled:
            return None
        if offer.payload is None:
            return Relay([Span(task[0], offer.attempt, [task[1]])])
        stays = task in self._results.needed and task not in self._forced
        return None if stays else _taken(task, offer)

    def _pop(self, task: Task) -> _Offer | None:
        self._resting.pop(task, None)
        self._delivered.pop(task, None)
        self._forced.discard(task)
        return self._offers.pop(task, None)

    def validate(self) -> None:
        """Check every invariant; `AssertionError` names the one that does not hold."""
        offers = self._offers
        resting = {task for task, offer in offers.items() if not offer.fetching}
        assert self._resting.keys() == resting, "what rests with its nodes"
        assert self._delivered.keys() <= offers.keys() - resting, "what the user has"
        assert self._forced <= offers.keys(), "makes room, and is not offered"


def _taken(task: Task, offer: _Offer) -> Taken:
    return Taken([Span(task[0], offer.attempt, [task[1]])])


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


def _part(ended: Deliver, places: Collection[int]) -> Deliver:
    return Deliver(
        ended.job,
        [ended.indices[place] for place in places],
        bytes(ended.statuses[place] for place in places),
        [ended.bodies[place] for place in places],
    )
