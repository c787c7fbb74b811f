"""Jobs that outlive their client and the broker: in the journal, and read back from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

from manyhands_broker.core.dependencies import Dependencies
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.job import SPILLED, Job
from manyhands_broker.core.model.quotas import JOB_BYTES
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.summaries import describe_damaged
from manyhands_broker.core.model.task_state import TaskState, ended_as
from manyhands_broker.core.records import (
    FunctionStored,
    JobClosed,
    JobEnded,
    JobForgotten,
    JobOpened,
    StoredJob,
    TasksEnded,
    TasksTaken,
)
from manyhands_broker.core.store import Damaged
from manyhands_broker.core.transitions import LOST, Transitions
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import Detach, Function, ResultGroup, Status, SubmitGroup
from manyhands_shared.text import amount

_SWEEP_SECONDS = 60.0
#: Tasks of a job that was set aside whose end is told one by one.
_TOLD_LOST = 10_000


class Durable:
    """What is special about durable jobs: writing them down, bringing them back, showing results."""

    def __init__(self, transitions: Transitions) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self.dependencies = Dependencies(transitions)

    # Submission

    def owner(self, name: str) -> Session:
        """Return the session on whose account a client's durable jobs run."""
        state = self._state
        ledger = state.ledgers.of_account(name)
        owner = state.owners.get(name)
        if owner is None:
            owner = state.owners[name] = Session(
                name.encode(), None, 1 << 62, state.now, ledger, stored=True
            )
            owner.name = name
        # The ledger of a key that has nothing here is dropped, and the key has a new one later.
        owner.ledger = ledger
        return owner

    def opened(self, job: Job, owner: str, first: int) -> None:
        """Record a durable job that was submitted, from task `first` on."""
        state = self._state
        for digest in job.digests:
            function = state.functions.get(digest)
            if function is not None:
                state.record(FunctionStored(function))
        submitted = job.submitted + state.epoch
        options = job.options.to_map()
        state.record(JobOpened(job.id, job.function, options, submitted, owner, first))

    def arrived(self, jobs: Iterable[Job], function: Function) -> None:
        """Record a function for which durable jobs have waited."""
        if any(job.options.durable for job in jobs):
            self._state.record(FunctionStored(function))

    def recall(self, digest: bytes, account: str) -> None:
        """Have a function that a durable job of an account has brought, perhaps before our start."""
        state = self._state
        if state.functions.get(digest) is None:
            function = state.store.function(digest)
            if isinstance(function, Function):
                state.functions.keep(function)
        if state.functions.get(digest) is not None and state.finished_jobs.has_run(account, digest):
            state.functions.own(digest, account)

    def taken(self, job: Job, first: int, bodies: list[Payload], *, closed: bool) -> None:
        """Record tasks that were added to a durable job, or that it was closed."""
        state = self._state
        if bodies:
            state.record(TasksTaken(job.id, first, bodies))
            if state.resident > state.limits.resident_bytes:
                # In a later drain: until this one is committed they can be read nowhere else.
                stop = first + len(bodies)
                later = math.nextafter(state.now, math.inf)
                state.timers.at(later, lambda _now: self._spill(job, first, stop), job)
        if closed:
            state.record(JobClosed(job.id, job.total))

    def refuse(self, group: SubmitGroup, options: JobOptions, known: int | None = None) -> None:
        """Raise `ProtocolError` if tasks cannot be taken.

        `known`: how many tasks of the job are here; `None` if there is no such job yet.
        """
        state = self._state
        if known is not None and group.first > known:
            # They were turned down, which the client may not have heard yet: to close the job now
            # would lose them.
            raise ProtocolError(
                f"tasks {known} to {group.first - 1}, which come first, are not here"
            )
        known = known or 0
        new = group.bodies[max(known - group.first, 0) :]
        if not new and known:
            return
        if not state.store.has_room(total(new)):
            raise ProtocolError(
                state.store.gone()
                or "the disk of the broker's journal is full: free some space, or have old results "
                "deleted with `manyhands forget`, and submit again"
            )
        for parent in options.after:
            if parent not in state.jobs and parent not in state.finished_jobs:
                raise ProtocolError(f"job {parent}, which this one comes after, is not known here")
            if parent in state.jobs and not state.jobs[parent].options.durable:
                raise ProtocolError(f"job {parent} is not durable, so no job can come after it")

    # Results

    def attach(self, session: Session, job_id: str) -> None:
        """Send a session every result of a job, stored and to come; or say that there is none."""
        job = self._state.jobs.get(job_id)
        if job is not None:
            job.subscribers.discard(session)
        if job_id in self._state.finished_jobs or (job is not None and job.options.durable):
            self._state.paused_readers.pop((session, job_id), None)
            self._state.readers[session, job_id] = 0
        elif job is None or job.session is not session:
            self.absent(session, job_id)

    def absent(self, session: Session, job_id: str) -> None:
        """Say that there are no results of a job for this session."""
        self._state.send(session.peer, Detach(job_id))

    def throttle(self, session: Session, job_id: str, *, pause: bool) -> None:
        """Pause the results of a session that is attached, or go on where the pause began."""
        state, reader = self._state, (session, job_id)
        if not pause:
            if reader in state.paused_readers:
                state.readers[reader] = state.paused_readers.pop(reader)
            return
        job = state.jobs.get(job_id)
        if reader in state.readers:
            state.paused_readers[reader] = state.readers.pop(reader)
        elif job is not None and session in job.subscribers:
            job.subscribers.discard(session)
            # What is not committed yet was told already, and will be told again.
            state.paused_readers[reader] = state.store.last_position(job_id)

    def detach(self, session: Session, job_id: str) -> None:
        """Send it no more."""
        self._state.readers.pop((session, job_id), None)
        self._state.paused_readers.pop((session, job_id), None)
        job = self._state.jobs.get(job_id)
        if job is not None:
            job.subscribers.discard(session)

    def leave(self, session: Session) -> None:
        """Stop sending to a session that is over."""
        for reader, job_id in [*self._state.readers, *self._state.paused_readers]:
            if reader is session:
                self.detach(session, job_id)
        for job in self._state.jobs.values():
            job.subscribers.discard(session)

    def page(self) -> None:
        """Read on for every session that can take more."""
        state = self._state
        for (session, job_id), position in list(state.readers.items()):
            if not self._may_read(session):
                continue
            try:
                page = state.store.results(job_id, position, state.limits.page_bytes)
            except Exception as error:  # noqa: BLE001 - reported; no session can read on
                state.breakdowns.of(error, state.jobs.get(job_id))
                del state.readers[session, job_id]
                self.absent(session, job_id)
                continue
            for stored in page:
                state.tell(session, stored.group)
                state.readers[session, job_id] = stored.position
            job = state.jobs.get(job_id)
            if not page and job_id not in state.unwritten:
                del state.readers[session, job_id]
                if job is not None:
                    job.subscribers.add(session)
        state.unwritten.clear()

    def page_written(self) -> list[Session]:
        """Read on while nothing can be written, for sessions that have nothing unwritten to come first.

        Returns those whose results are to be sent.
        """
        state = self._state
        told: dict[Session, None] = {}
        for (session, job_id), position in list(state.readers.items()):
            if not self._may_read(session) or (session.fresh and session not in told):
                continue
            for stored in state.store.results(job_id, position, state.limits.page_bytes):
                state.tell(session, stored.group)
                state.readers[session, job_id] = stored.position
                told[session] = None
        return list(told)

    @property
    def reading(self) -> bool:
        """Whether some session has stored results to come and room for them."""
        return any(self._may_read(session) for session, _ in self._state.readers)

    def _may_read(self, session: Session) -> bool:
        return session.takes and session.unacked_bytes < self._state.limits.read_ahead

    # Restart and retention

    def restore(self, stored: StoredJob) -> None:
        """Bring a job back as the journal has it, every unfinished task queued.

        What cannot be brought back is set aside: it has failed, by name, and the others go on.
        """
        if stored.summary is not None:
            self._state.finished_jobs.add(stored.summary)
            return
        if stored.damage:
            self._set_aside(stored, stored.damage)
            return
        try:
            job = self._job_from(stored)
        except Exception as error:  # noqa: BLE001 - whatever a record holds ends its own job alone
            text = f"its record in the broker's journal cannot be used ({type(error).__name__}: {error})"
            self._set_aside(stored, text)
            return
        self._install(job, stored)

    def _job_from(self, stored: StoredJob) -> Job:
        """Return a job by its record; change nothing outside it."""
        options = JobOptions.from_map(stored.options)
        owner = self.owner(stored.owner)
        submitted = stored.submitted - self._state.epoch
        job = Job(stored.id, owner, stored.function, options, submitted)
        self._refill(job, stored)
        job.paused = "paused" in stored.marks
        job.on_hold = True
        if stored.closed:
            job.close()
        return job

    def _install(self, job: Job, stored: StoredJob) -> None:
        """Have a job that was brought back go on."""
        state = self._state
        state.open(job, JOB_BYTES)
        state.queued += job.queued
        job.session.took(job.queued, 0)
        functions = [state.store.function(digest) for digest in job.digests]
        for function in functions:
            if isinstance(function, Function):
                state.functions.add(function, job.session.account)
        damaged = [function for function in functions if isinstance(function, Damaged)]
        job.waiting = not state.functions.use(job, trusted=False)
        # From the first drain on: until then no node could come back.
        state.timers.at(state.now, lambda now: self._await_nodes(job, now), job)
        if damaged:
            self.lose(job, job.every_piece(TaskState.QUEUED), damaged[0].reason)
        elif "cancelled" in stored.marks:
            job.terminating = True
            for piece in job.every_piece(TaskState.QUEUED):
                self._transitions.cancel(piece, None)
        if job.finished:
            self._transitions.retire(job)

    def lose(self, job: Job, pieces: Iterable[Piece], reason: str) -> None:
        """End queued tasks for which the journal has lost what they need, all for one reason."""
        pieces = list(pieces)
        count = sum(piece.size for piece in pieces)
        text = f"{amount(count, 'task')} of job {job.id} cannot run: {reason}"
        self._state.say(logging.WARNING, text, job=job.id)
        job.tell(text)
        body = Failure("manyhands.TaskLost", text).encode()
        for piece in pieces:
            self._transitions.end_alike(piece, None, Status.LOST, body)

    def _set_aside(self, stored: StoredJob, reason: str) -> None:
        """Keep a job whose record is of no use as one that has failed, with the results it has."""
        state = self._state
        text = f"job {stored.id}: {reason}"
        owner = state.ledgers.called(stored.owner)
        summary = describe_damaged(stored, text, owner, state.now + state.epoch)
        state.counters["jobs_set_aside"] += 1
        said = f"{text}; it has failed, and what it has of results can be read"
        state.say(logging.ERROR, said, job=stored.id)
        state.finished_jobs.add(summary)
        left = [index for lo, hi in stored.taken for index in range(lo, min(hi, lo + _TOLD_LOST))]
        left = [index for index in left if index not in stored.ended][:_TOLD_LOST]
        if left:
            body = Failure("manyhands.TaskLost", text).encode()
            statuses = bytes([Status.LOST]) * len(left)
            group = ResultGroup(stored.id, 0, left, statuses, [body] * len(left), 0.0)
            state.record(TasksEnded(group))
        state.record(JobEnded(stored.id, summary))

    def _refill(self, job: Job, stored: StoredJob) -> None:
        """Give a job its tasks again, all of them queued but those that have ended."""
        for first, stop in stored.taken:
            if first > job.total:
                job.skip_to(first)
            job.append([SPILLED] * (stop - first))
        for status in set(stored.ended.values()):
            for piece in job.pieces(sorted(i for i, s in stored.ended.items() if s == status)):
                job.end(piece, TaskState.QUEUED, ended_as(status))
        for index, floor in stored.floors.items():
            for chunk, lo, _ in job.pieces([index]):
                chunk.attempts[lo] = floor - 1
        job.uncertain = stored.started - stored.ended.keys()
        job.withdraw(job.uncertain)
        for index, story in stored.stories.items():
            job.tell(*(f"task {index}: {line}" for line in story))
            if index not in stored.ended:
                job.tries[index] = stored.tries[index]
                job.blames[index] = list(story)

    def start(self) -> None:
        """Go on after every job is restored: have jobs wait for others, and sweep old results."""
        self._state.finished_jobs.sort()
        for job in list(self._state.jobs.values()):
            self.dependencies.follow(job)
        self._sweep(self._state.now)

    def dependents(self, job_id: str) -> list[str]:
        """Return the ids of jobs that still need the results of one that is over."""
        return [job.id for job in self._state.jobs.values() if job_id in job.options.after]

    def forget(self, job_id: str) -> None:
        """Delete a job that is over, with its results."""
        self._state.finished_jobs.remove(job_id)
        self._state.histories.forget(job_id)
        for readers in (self._state.readers, self._state.paused_readers):
            for reader in [reader for reader in readers if reader[1] == job_id]:
                del readers[reader]
        self._state.record(JobForgotten(job_id))

    def _await_nodes(self, job: Job, now: float) -> None:
        timers, limits = self._state.timers, self._state.limits
        timers.await_peer(now + limits.rejoin_wait, lambda _now: self._release(job), job)
        if job.uncertain:
            timers.await_peer(now + limits.session_grace, lambda _now: self._lose(job), job)

    def _lose(self, job: Job) -> None:
        """End tasks that no node has brought back and that must not run twice."""
        for piece in list(job.pieces(sorted(job.uncertain))):
            self._transitions.end_alike(piece, None, Status.LOST, LOST)

    def _release(self, job: Job) -> None:
        job.on_hold = False
        self._state.ready.add(job)

    def _sweep(self, now: float) -> None:
        limits = self._state.limits
        oldest = now + self._state.epoch - limits.keep_results
        needed = {parent for job in self._state.jobs.values() for parent in job.options.after}
        for job_id in self._state.finished_jobs.ended_before(oldest):
            if job_id not in needed:
                self.forget(job_id)
        self._state.timers.at(now + _SWEEP_SECONDS, self._sweep)

    def _spill(self, job: Job, first: int, stop: int) -> None:
        """Keep the payloads of tasks that have not ended in the journal only."""
        size = 0
        for chunk, lo, hi in job.pieces(list(range(first, stop))):
            bodies = [body for body in chunk.payloads[lo:hi] if body is not None]
            size += total(bodies)
            chunk.payloads[lo:hi] = [
                None if body is None else SPILLED for body in chunk.payloads[lo:hi]
            ]
        job.session.took(0, -size)
        self._state.resident -= size
