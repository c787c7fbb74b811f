"""Which running tasks get a second attempt, and where.

Only the tail of a job is looked at: nothing of it waits any more, and most of it has ended. Queued tasks
of all jobs had their turn first, and a slot is still free. A task that is slow then, by the durations of
those that have ended, is given to another node as well. A job is looked at when its oldest running task
may have become slow. So an event costs nothing, and a look costs only what is slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from manyhands_broker.core.model.attempts import Speculation
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.state.scheduler_state import SchedulerState

#: Slow tasks in one look at a job; the others have their turn with the next.
_AT_ONCE = 256


class Speculator:
    """Looks at jobs that are due."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def choose(self, now: float) -> Iterator[tuple[Piece, Node]]:
        """Yield slow tasks, one by one, each with the node that is to run it as well.

        The caller gives it out before it asks for the next.
        """
        overdue, self._state.overdue = self._state.overdue, {}
        for job in overdue:
            speculation = job.speculation
            if speculation is None:
                continue
            if job.finished or not speculation.since:
                speculation.look_due = False
                continue
            yield from self._slow(job, speculation, now)

    def _slow(self, job: Job, speculation: Speculation, now: float) -> Iterator[tuple[Piece, Node]]:
        """Yield the slow tasks of a job that have a slot; have the job looked at again."""
        limits, median = self._state.limits, speculation.median
        if median is None or not self._is_in_its_tail(job):
            self._state.look_at(job, now + limits.speculate_floor)
            return
        threshold = max(limits.speculate_floor, limits.speculate_factor * median)
        # It may have waited where its data is for as long as that takes to come to another node.
        threshold += job.transfer_seconds
        for index in list(islice(_until(speculation.since, now - threshold), _AT_ONCE)):
            [piece] = job.pieces([index])
            if index in job.cancelling or index in job.suspects or index in job.blames:
                # It may be what ends processes: one at a time is enough.
                del speculation.since[index]
                continue
            node = self._spare(job, piece)
            if node is None:
                self._state.look_at(job, now + limits.speculate_again)
                return
            del speculation.since[index]
            yield piece, node
        self._await(job, speculation, now, threshold)

    def _await(self, job: Job, speculation: Speculation, now: float, threshold: float) -> None:
        if not speculation.since:
            speculation.look_due = False
            return
        oldest = next(iter(speculation.since.values()))
        # A look costs something: all that becomes slow at about the same time is for the next one.
        again = self._state.limits.speculate_again
        self._state.look_at(job, max(oldest + threshold, now + again))

    def _is_in_its_tail(self, job: Job) -> bool:
        if job.paused or job.terminating or job.queued > len(job.delayed):
            return False
        open_ = job.counts[TaskState.QUEUED] + job.counts[TaskState.ASSIGNED]
        return job.total - open_ >= self._state.limits.speculate_share * job.total

    def _spare(self, job: Job, piece: Piece) -> Node | None:
        session, holder = job.session, piece.chunk.holders[piece.lo]
        if not session.may_run:
            return None
        return self._state.fleet.spare(job, holder)


def _until(since: dict[int, float], latest: float) -> Iterator[int]:
    """Yield tasks that run since `latest` or longer."""
    for index, began in since.items():
        if began > latest:
            return
        yield index
