"""Every move of a task that concerns more than its job: its node, its session, the journal, its client.

Each method makes one move as a whole. No caller has a second half to remember.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable

from manyhands_broker.core.history.job_history import JobHistory
from manyhands_broker.core.model.attempts import Adoption, Speculation
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.summaries import without_long
from manyhands_broker.core.model.task_state import TaskState, ended_as
from manyhands_broker.core.records import (
    AttemptsStale,
    JobEnded,
    JobRemembered,
    TasksEnded,
    TasksStarted,
)
from manyhands_broker.core.state import twins
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import JobsOver, ResultGroup, Span, Status

#: Seconds before tasks of a new job are given out under the id of one that is over: far longer than an
#: acknowledgement takes.
ID_REUSE_DELAY = 1.0
#: Seconds from a job's end until its history is written: nodes tell of runs twice a second.
REMEMBER_DELAY = 1.0
#: Jobs that are over before a node is told, in one message: each costs it about a kilobyte meanwhile.
OVER_JOBS = 256

#: What counts the tasks that ended in each state.
_COUNTER = {state: f"tasks_{state.name.lower()}" for state in TaskState}
#: What the failure payload of a task says that may have run and must not run again.
LOST = Failure(
    "manyhands.TaskLost",
    "what ran the task is gone, and it may not run again (at_most_once); whether it ran is unknown",
).encode()


class Transitions:
    """Moves tasks along the table of `model.task_state`, and ends jobs that have none left."""

    def __init__(self, state: SchedulerState) -> None:
        self.state = state

    def assign(self, piece: Piece, node: Node, each: float) -> int:
        """QUEUED → ASSIGNED; return the attempt number."""
        state = self.state
        job = piece.chunk.job
        if not node.active:
            node.last_result, node.stalled = state.now, False
        attempt = job.assign(piece, node)
        node.gain(piece, each)
        if job.options.at_most_once and job.options.durable:
            state.record(TasksStarted(job.id, list(piece.indices), attempt))
        if job.suspects:
            node.suspects += sum(index in job.suspects for index in piece.indices)
        job.session.assigned += piece.size
        state.queued -= piece.size
        if not job.touched:
            state.histories.touch(job)
        if job.speculation is not None:
            self._began(piece, job.speculation)
        return attempt

    def adopt(self, job: Job, adoptions: Collection[Adoption]) -> None:
        """QUEUED → ASSIGNED, each in an attempt that its node runs already."""
        state = self.state
        job.adopt(adoptions)
        for piece, node, _ in adoptions:
            for offset in range(piece.lo, piece.hi) if piece.chunk.results else ():
                if (inputs := piece.chunk.results.get(offset)) is not None:
                    inputs.stop_waiting(job, piece.chunk.base + offset)
            node.gain(piece, job.expected(state.limits.unmeasured))
            job.session.assigned += piece.size
            state.queued -= piece.size
            state.fleet.update(node)
            state.counters["tasks_adopted"] += piece.size
            if job.speculation is not None:
                self._began(piece, job.speculation)

    def requeue(self, piece: Piece, node: Node, *, started: bool = True) -> None:
        """ASSIGNED → QUEUED; or to an end, where that was wanted or a second run is not.

        `started`: whether the tasks may have begun to run.
        """
        job = piece.chunk.job
        if job.speculation is not None and job.speculation.twins:
            for single in piece.singles():
                if twins.runs_twice(job, single.indices.start):
                    twins.drop(self.state, single, node, started=started)
                else:
                    self._requeue(single, node, started)
        else:
            self._requeue(piece, node, started)

    def retry_later(self, piece: Piece, node: Node, delay: float) -> None:
        """ASSIGNED → QUEUED, in line again after `delay` seconds."""
        state = self.state
        job = piece.chunk.job
        self._leave(piece, node, started=True)
        job.postpone(piece, state.now + delay)
        state.timers.at(state.now + delay, lambda now: self._revive(job, now), job)

    def conclude(self, job: Job, pieces: Iterable[Piece], node: Node, group: ResultGroup) -> None:
        """ASSIGNED → an end, by the results in `group`: one for each task of `pieces`, in their order.

        The results go into the journal and to clients, with this drain.
        """
        if not any(group.statuses):
            for piece in pieces:
                self._end(piece, node, TaskState.DONE)
        else:
            singles = (single for piece in pieces for single in piece.singles())
            for single, status in zip(singles, group.statuses, strict=True):
                self._end(single, node, ended_as(status))
        self._report(job, group)

    def end_alike(self, piece: Piece, node: Node | None, status: Status, body: Payload) -> None:
        """ASSIGNED, with its node, or QUEUED, without → an end, the same for all tasks of `piece`."""
        job, count = piece.chunk.job, piece.size
        attempt = piece.chunk.attempts[piece.lo]
        self._end(piece, node, ended_as(status))
        indices, statuses = list(piece.indices), bytes([status]) * count
        if status == Status.LOST:
            where = "" if node is None else node.name
            for index in indices:
                self.state.histories.failed(
                    job, (index, attempt), where, "lost", body, self.state.now
                )
        self._report(job, ResultGroup(job.id, attempt, indices, statuses, [body] * count, 0.0))

    def cancel(self, piece: Piece, node: Node | None) -> None:
        """End tasks that are not wanted any more, in the way their job wants it."""
        self.end_alike(piece, node, *piece.chunk.job.ending)

    def retire(self, job: Job) -> None:
        """Keep a line about a job that is over, and let jobs go on that waited for it."""
        state = self.state
        if state.jobs.pop(job.id, None) is None:
            return
        job.session.retire(job)
        self._reserve_id(job)
        summary = {**state.summary(job), "ended": state.now + state.epoch}
        state.job_over(summary)
        history = state.histories.retire(job, state.now)
        if job.options.durable:
            if history is not None:
                self._remember(job.id, history)
            state.finished_jobs.add(summary)
            state.record(JobEnded(job.id, summary))
        else:
            summary["options"] = without_long(summary["options"])
            state.history.append(summary)
        state.functions.release(job)
        ledger = job.session.ledger
        ledger.end_job(job.kind)
        ledger.function_bytes -= job.cost
        state.ledgers.tidy(ledger)
        for node in job.known_by:
            node.knows.discard(job)
            node.over[job.id] = None
            if len(node.over) >= OVER_JOBS:
                self.tell_over(node)
        job.known_by.clear()
        followers = state.followers.pop(job.id, None)
        if followers:
            state.over.append((job.id, summary["state"], deque(followers)))

    def tell_over(self, node: Node) -> None:
        """Tell a node which of the jobs that it knows are over."""
        self.state.send(node.peer, JobsOver([Span(job, 0, []) for job in node.over]))
        node.over.clear()

    def _remember(self, job_id: str, history: JobHistory) -> None:
        """Have the journal keep a job's history, once nodes have told of its last runs."""

        def write(_now: float) -> None:
            state = self.state
            if job_id in state.finished_jobs:
                state.record(JobRemembered(job_id, history.told(state.epoch, private=True)))

        self.state.timers.at(self.state.now + REMEMBER_DELAY, write)

    def _began(self, piece: Piece, speculation: Speculation) -> None:
        """Have the tasks looked at in time: they may turn out to be slow."""
        state = self.state
        speculation.since.update(dict.fromkeys(piece.indices, state.now))
        if not speculation.look_due:
            speculation.look_due = True
            state.look_at(piece.chunk.job, state.now + state.limits.speculate_floor)

    def _requeue(self, piece: Piece, node: Node, started: bool) -> None:
        job = piece.chunk.job
        if job.cancelling:
            for single in piece.singles():
                if single.indices.start in job.cancelling:
                    self.cancel(single, node)
                elif started and job.options.at_most_once:
                    self.end_alike(single, node, Status.LOST, LOST)
                else:
                    self._put_back(single, node, started)
        elif started and job.options.at_most_once:
            self.end_alike(piece, node, Status.LOST, LOST)
        else:
            self._put_back(piece, node, started)

    def _put_back(self, piece: Piece, node: Node, started: bool) -> None:
        job = piece.chunk.job
        self._leave(piece, node, started=started)
        job.release(piece)
        self.state.ready.add(job)

    def _revive(self, job: Job, now: float) -> None:
        job.revive(now)
        self.state.ready.add(job)

    def _leave(self, piece: Piece, node: Node, *, started: bool) -> None:
        """Do what is alike for all tasks that go back to the queue."""
        state = self.state
        job = piece.chunk.job
        node.lose(piece)
        if job.sources:
            for index in piece.indices:
                if (source := job.sources.get(index)) is not None:
                    source.lose()
        job.session.assigned -= piece.size
        state.queued += piece.size
        state.unpark(job.session)
        if job.speculation is not None and job.speculation.twins:
            job.speculation.renumber(piece)
        # What a node gave back unstarted it cannot bring again; only where it counts as a run is
        # that worth a record.
        if job.options.durable and (started or job.options.at_most_once):
            floor = piece.chunk.attempts[piece.lo] + 1
            state.record(AttemptsStale(job.id, list(piece.indices), floor))

    def _end(self, piece: Piece, node: Node | None, new: TaskState) -> None:
        """Move to a terminal state, from ASSIGNED (with its node) or QUEUED (without)."""
        state = self.state
        job, session, count = piece.chunk.job, piece.chunk.job.session, piece.size
        if job.speculation is not None and job.speculation.twins:
            twins.end(state, piece, done=new == TaskState.DONE)
        if node is None:
            state.queued -= count
            old = TaskState.QUEUED
        else:
            node.lose(piece)
            session.assigned -= count
            old = TaskState.ASSIGNED
            if session.parked:
                state.unpark(session)
        freed = job.end(piece, old, new)
        session.took(-count, -freed)
        if job.options.durable:
            state.resident -= freed
        state.counters[_COUNTER[new]] += count

    def _report(self, job: Job, group: ResultGroup) -> None:
        """Put results that have become final into the journal, and send them with this drain."""
        state = self.state
        if not job.touched:
            state.histories.touch(job)
        if job.sources:
            for index, status, body in zip(
                group.indices, group.statuses, group.bodies, strict=True
            ):
                if (source := job.sources.get(index)) is not None:
                    state.ended_inputs.append((source, Status(status), body))
        if job.options.durable:
            state.record(TasksEnded(group))
            if job.id not in state.unwritten:
                self._leave_behind(job)
                state.unwritten.add(job.id)
            for session in job.subscribers:
                state.tell(session, group)
        elif job.session.token in state.sessions:
            state.tell(job.session, group)
        if job.finished:
            self.retire(job)

    def _leave_behind(self, job: Job) -> None:
        """Have sessions that do not take what they see of a job read on from the store, when they do.

        Only before the job's first results of a drain: all that they saw of it is in the store then.
        """
        state = self.state
        slow = [s for s in job.subscribers if not s.takes]
        for session in slow:
            job.subscribers.discard(session)
            state.readers[session, job.id] = state.store.last_position(job.id)

    def _reserve_id(self, job: Job) -> None:
        """Reserve the id for a while: nodes have results under it until the broker acknowledges."""
        state = self.state
        ids = state.reserved_ids
        # What is being stopped is over once its node has turned its loop, or is given up.
        stopping = job.speculation is not None and twins.is_stopping(state, job)
        now = state.timers.listened(state.now)
        ids[job.id] = now + ID_REUSE_DELAY + stopping * state.limits.lease
        ids.move_to_end(job.id)
        while ids and next(iter(ids.values())) <= now:
            ids.popitem(last=False)
