"""Whose turn it is: priorities, then a fair share between keys, then between the sessions of a key.

Within a priority the key that has received the least work so far goes first. This is start-time fair
queueing (Goyal and others, 1996). A key's virtual time grows by the seconds of work it is given. A key
that was away resumes at the present virtual time instead of claiming the past. So a client gains
nothing by opening many sessions. The sessions of a key share what it gets in the same way. The jobs of
a session take turns, also those that need different things of nodes.

A job's priority among those of others is capped by its key's. What was asked for beyond that still
orders the key's own jobs. Finding the next job costs the logarithm of the number of keys and sessions,
for each kind of job that is queued. The number of tasks does not matter.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Collection, Iterator
from itertools import count

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.quotas import Ledger
from manyhands_broker.core.model.requirements import Kind, Needs
from manyhands_broker.core.model.session import Session

#: A lane's place in a share: its session, and the priority that its jobs ask for.
_Place = tuple[Session, int]


class _Lane(deque[Job]):
    """The jobs of one session, kind, and priority asked for."""

    #: When it last had its turn, or came: the higher, the later. Lanes of a session alternate.
    turn = 0


class _Share:
    """The jobs of one key in a level."""

    __slots__ = ("heap", "lanes", "listed", "parked")

    def __init__(self) -> None:
        #: (negated priority asked for, virtual time when pushed, tie-breaker, session): one entry for
        #: each lane not parked.
        self.heap: list[tuple[int, float, int, Session]] = []
        self.lanes: dict[_Place, _Lane] = {}
        #: Lanes passed over until their session may run again.
        self.parked: set[_Place] = set()
        #: Whether the level's heap has an entry for it.
        self.listed = False


class _Level:
    """The jobs of one priority and kind."""

    __slots__ = ("heap", "shares")

    def __init__(self) -> None:
        #: (virtual time when pushed, tie-breaker, key): one entry for each share that is listed.
        self.heap: list[tuple[float, int, Ledger]] = []
        self.shares: dict[Ledger, _Share] = {}


class ReadyQueue:
    """Jobs that have queued tasks, in the order in which they get slots.

    Jobs are apart by priority and by what their tasks need of a node (their *kind*). So tasks that no
    node can take now never stand in the way of others.
    """

    def __init__(self) -> None:
        self._levels: dict[int, dict[Kind, _Level]] = {}
        #: Negated priorities, ascending.
        self._order: list[int] = []
        self._ties = count()
        self._now = 0.0
        #: Sessions that are passed over, and where.
        self._parked: dict[Session, list[tuple[_Level, _Share, _Place]]] = {}

    def add(self, job: Job) -> None:
        """List a job that may run; again, or one that may not, does nothing."""
        if job.listed or not job.runnable:
            return
        kinds = self._levels.get(job.priority)
        if kinds is None:
            kinds = self._levels[job.priority] = {}
            insort(self._order, -job.priority)
        level = kinds.get(job.kind)
        if level is None:
            level = kinds[job.kind] = _Level()
        session = job.session
        share = level.shares.get(session.ledger)
        if share is None:
            share = level.shares[session.ledger] = _Share()
        place = session, job.options.priority
        lane = share.lanes.get(place)
        if lane is None:
            lane = share.lanes[place] = _Lane()
            lane.turn = next(self._ties)
            if place not in share.parked:
                self._enter(level, share, place)
        lane.append(job)
        job.listed = True

    def next(self, without: Collection[Kind] = ()) -> Job | None:
        """Return the job whose turn it is, leaving out the kinds in `without`; it stays listed."""
        for negated in list(self._order):
            kinds = self._levels[-negated]
            best: Job | None = None
            first = (0.0, 0, 0.0, 0)
            for kind, level in list(kinds.items()):
                if kind in without:
                    continue
                found = self._next_of(level)
                if found is None:
                    if not level.shares:
                        del kinds[kind]
                    continue
                job, lane = found
                session = job.session
                order = (session.ledger.vtime, -job.options.priority, session.vtime, lane.turn)
                if best is None or order < first:
                    best, first = job, order
            if not kinds:
                del self._levels[-negated]
                self._order.remove(negated)
            if best is not None:
                self._now = max(self._now, first[0])
                ledger = best.session.ledger
                ledger.clock = max(ledger.clock, first[2])
                return best
        return None

    def charge(self, job: Job, seconds: float) -> None:
        """Count work of `seconds` that the job was given: others come first now."""
        session = job.session
        session.charge(seconds)
        share = self._levels[job.priority][job.kind].shares.get(session.ledger)
        lane = share and share.lanes.get((session, job.options.priority))
        if not lane:
            return
        lane.turn = next(self._ties)
        if len(lane) > 1 and lane[0] is job:
            lane.rotate(-1)

    def unpark(self, session: Session) -> None:
        """Let a session run again."""
        session.parked = False
        session.ledger.parked.discard(session)
        for level, share, place in self._parked.pop(session, ()):
            if place in share.parked:
                share.parked.remove(place)
                if place in share.lanes:
                    self._enter(level, share, place)

    def needs(self) -> set[Needs]:
        """Return what listed jobs need nodes to be like."""
        return {
            kind.needs
            for kinds in self._levels.values()
            for kind, level in kinds.items()
            if any(job.runnable for lane in _lanes(level) for job in lane)
        }

    def drop(self, session: Session) -> None:
        """Forget a session and all its jobs."""
        ledger = session.ledger
        ledger.parked.discard(session)
        for _, parked_in, place in self._parked.pop(session, ()):
            parked_in.parked.discard(place)
        for level in [level for kinds in self._levels.values() for level in kinds.values()]:
            share = level.shares.get(ledger)
            if share is None:
                continue
            for place in [place for place in share.lanes if place[0] is session]:
                for job in share.lanes.pop(place):
                    job.listed = False
            if not share.lanes and not share.listed:
                del level.shares[ledger]

    def _enter(self, level: _Level, share: _Share, place: _Place) -> None:
        session, asked = place
        ledger = session.ledger
        session.vtime = max(session.vtime, ledger.clock)
        heapq.heappush(share.heap, (-asked, session.vtime, next(self._ties), session))
        if not share.listed:
            share.listed = True
            ledger.vtime = max(ledger.vtime, self._now)
            heapq.heappush(level.heap, (ledger.vtime, next(self._ties), ledger))

    def _next_of(self, level: _Level) -> tuple[Job, _Lane] | None:
        heap = level.heap
        while heap:
            vtime, tie, ledger = heap[0]
            if vtime < ledger.vtime:
                heapq.heapreplace(heap, (ledger.vtime, tie, ledger))
                continue
            share = level.shares[ledger]
            found = self._next_in(level, share)
            if found is not None:
                return found
            heapq.heappop(heap)
            share.listed = False
            if not share.lanes:
                del level.shares[ledger]
        return None

    def _next_in(self, level: _Level, share: _Share) -> tuple[Job, _Lane] | None:
        heap = share.heap
        while heap:
            negated, vtime, tie, session = heap[0]
            place = session, -negated
            lane = share.lanes.get(place)
            while lane and not lane[0].runnable:
                lane.popleft().listed = False
            if not lane:
                share.lanes.pop(place, None)
                heapq.heappop(heap)
            elif not session.may_run:
                session.parked = True
                session.ledger.parked.add(session)
                share.parked.add(place)
                self._parked.setdefault(session, []).append((level, share, place))
                heapq.heappop(heap)
            elif vtime < session.vtime:
                heapq.heapreplace(heap, (negated, session.vtime, tie, session))
            else:
                return lane[0], lane
        return None


def _lanes(level: _Level) -> Iterator[_Lane]:
    for share in level.shares.values():
        yield from share.lanes.values()
