"""Whose turn it is: priorities first, then a fair share between sessions, then turns between jobs.

Within a priority the session that has received the least work so far goes first (start-time fair
queueing, Goyal et al. 1996: a session's virtual time grows by the seconds of work it is given, and a
session that was away resumes at the present virtual time instead of claiming the past). Its jobs take
turns, also those that need different things of nodes. Finding the next job costs the logarithm of the
number of sessions for each kind of job that is queued, whatever the number of tasks.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque
from collections.abc import Collection, Iterator
from itertools import count

from manyhands_broker.core.job import Job
from manyhands_broker.core.kind import Kind, Needs
from manyhands_broker.core.session import Session


class _Lane(deque[Job]):
    """The jobs of one session, priority and kind."""

    #: When it last had its turn, or came: the higher, the later. Lanes of a session alternate.
    turn = 0


class _Level:
    """The jobs of one priority and kind."""

    __slots__ = ("heap", "lanes", "parked")

    def __init__(self) -> None:
        #: (virtual time when pushed, tie-breaker, session): one entry for each lane not parked.
        self.heap: list[tuple[float, int, Session]] = []
        self.lanes: dict[Session, _Lane] = {}
        #: Sessions passed over until they may run again.
        self.parked: set[Session] = set()


class ReadyQueue:
    """Jobs that have queued tasks, in the order in which they get slots.

    Jobs are kept apart by priority and by what their tasks need of a node (their *kind*), so that tasks
    which no node can take now never stand in the way of others.
    """

    def __init__(self) -> None:
        self._levels: dict[int, dict[Kind, _Level]] = {}
        #: Negated priorities, ascending.
        self._order: list[int] = []
        self._ties = count()
        self._now = 0.0

    def add(self, job: Job) -> None:
        """List a job that may run; again, or one that may not, does nothing."""
        if job.listed or not job.runnable:
            return
        priority = job.options.priority
        kinds = self._levels.get(priority)
        if kinds is None:
            kinds = self._levels[priority] = {}
            insort(self._order, -priority)
        level = kinds.get(job.kind)
        if level is None:
            level = kinds[job.kind] = _Level()
        session = job.session
        lane = level.lanes.get(session)
        if lane is None:
            lane = level.lanes[session] = _Lane()
            lane.turn = next(self._ties)
            if session not in level.parked:
                self._enter(level, session)
        lane.append(job)
        job.listed = True

    def next(self, without: Collection[Kind] = ()) -> Job | None:
        """The job whose turn it is, leaving out the kinds in `without`; it stays listed."""
        for negated in list(self._order):
            kinds = self._levels[-negated]
            best: Job | None = None
            first = (0.0, 0)
            for kind, level in list(kinds.items()):
                if kind in without:
                    continue
                job = self._next_of(level)
                if job is None:
                    if not level.lanes:
                        del kinds[kind]
                    continue
                order = (job.session.vtime, level.lanes[job.session].turn)
                if best is None or order < first:
                    best, first = job, order
            if not kinds:
                del self._levels[-negated]
                self._order.remove(negated)
            if best is not None:
                self._now = max(self._now, best.session.vtime)
                return best
        return None

    def charge(self, job: Job, seconds: float) -> None:
        """The job was given work of so many seconds: others come first now."""
        session = job.session
        session.vtime += seconds
        lane = self._levels[job.options.priority][job.kind].lanes.get(session)
        if lane is None:
            return
        lane.turn = next(self._ties)
        if len(lane) > 1 and lane[0] is job:
            lane.rotate(-1)

    def unpark(self, session: Session) -> None:
        """The session may run again."""
        session.parked = False
        for level in self._every_level():
            if session in level.parked:
                level.parked.remove(session)
                if session in level.lanes:
                    self._enter(level, session)

    def needs(self) -> set[Needs]:
        """What listed jobs need nodes to be like."""
        return {
            kind.needs
            for kinds in self._levels.values()
            for kind, level in kinds.items()
            if any(job.runnable for lane in level.lanes.values() for job in lane)
        }

    def drop(self, session: Session) -> None:
        """Forget a session and all its jobs."""
        for level in self._every_level():
            level.parked.discard(session)
            for job in level.lanes.pop(session, ()):
                job.listed = False

    def _every_level(self) -> Iterator[_Level]:
        for kinds in self._levels.values():
            yield from kinds.values()

    def _enter(self, level: _Level, session: Session) -> None:
        session.vtime = max(session.vtime, self._now)
        heapq.heappush(level.heap, (session.vtime, next(self._ties), session))

    def _next_of(self, level: _Level) -> Job | None:
        heap = level.heap
        while heap:
            vtime, tie, session = heap[0]
            lane = level.lanes.get(session)
            while lane and not lane[0].runnable:
                lane.popleft().listed = False
            if not lane:
                level.lanes.pop(session, None)
                heapq.heappop(heap)
            elif not session.may_run:
                session.parked = True
                level.parked.add(session)
                heapq.heappop(heap)
            elif vtime < session.vtime:
                heapq.heapreplace(heap, (session.vtime, tie, session))
            else:
                return lane[0]
        return None
