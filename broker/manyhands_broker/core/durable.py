"""Jobs that outlive their client and the broker: held by the journal, read back from it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from manyhands_broker.core.book import Book
from manyhands_broker.core.job import SPILLED, Job
from manyhands_broker.core.records import (
    FunctionKept,
    JobClosed,
    JobForgotten,
    JobOpened,
    StoredJob,
    TasksTaken,
)
from manyhands_broker.core.session import Session
from manyhands_broker.core.states import State
from manyhands_shared.errors import ProtocolError
from manyhands_shared.messages import Function, Status, SubmitGroup
from manyhands_shared.options import JobOptions
from manyhands_shared.serial import Payload, total

_STATES = {Status.OK: State.DONE, Status.CANCELLED: State.CANCELLED}
_SWEEP_SECONDS = 60.0


class Durable:
    """What is special about durable jobs: writing them down, bringing them back, showing results."""

    def __init__(self, book: Book) -> None:
        self._book = book
        #: Sessions that read stored results: (session, job) → position reached.
        self._readers: dict[tuple[Session, str], int] = {}

    # Submission

    def owner(self, name: str) -> Session:
        """On whose account a client's durable jobs run."""
        book = self._book
        owner = book.owners.get(name)
        if owner is None:
            owner = book.owners[name] = Session(name.encode(), None, 1 << 62, book.now)
            owner.name = name
        return owner

    def opened(self, job: Job, owner: str) -> None:
        """A durable job was submitted."""
        book = self._book
        function = book.functions.get(job.function)
        if function is not None:
            book.record(FunctionKept(function))
        submitted = job.submitted + book.epoch
        book.record(JobOpened(job.id, job.function, job.options.to_map(), submitted, owner))

    def arrived(self, jobs: Iterable[Job], function: Function) -> None:
        """A function came for which jobs have waited."""
        if any(job.options.durable for job in jobs):
            self._book.record(FunctionKept(function))

    def taken(self, job: Job, first: int, bodies: list[Payload], *, closed: bool) -> None:
        """Tasks were added to a durable job, or it was closed."""
        book = self._book
        if bodies:
            book.record(TasksTaken(job.id, first, bodies))
            if book.resident > book.limits.resident_bytes:
                # In a later drain: until this one is committed they can be read nowhere else.
                book.timers.at(
                    math.nextafter(book.now, math.inf),
                    lambda _now: self._spill(job, first, first + len(bodies)),
                )
        if closed:
            book.record(JobClosed(job.id))

    def refuse(self, group: SubmitGroup, options: JobOptions) -> None:
        """Raise `ProtocolError` if these tasks cannot be taken."""
        book = self._book
        if not book.store.has_room(total(group.bodies)):
            raise ProtocolError(
                "the disk of the broker's journal is full: free some space, or have old results "
                "deleted with `manyhands forget`, and submit again"
            )
        for parent in options.after:
            if parent not in book.jobs and parent not in book.kept:
                raise ProtocolError(f"job {parent}, which this one comes after, is not known here")
            if parent in book.jobs and not book.jobs[parent].options.durable:
                raise ProtocolError(f"job {parent} is not durable, so no job can come after it")

    def follow(self, job: Job) -> None:
        """Have a new job wait for those it comes after."""
        book = self._book
        job.awaits = set(job.options.after)
        for parent in job.options.after:
            if parent in book.kept:
                book.followed(job, parent, str(book.kept[parent]["state"]))
            else:
                book.followers.setdefault(parent, []).append(job)

    # Results

    def attach(self, session: Session, job_id: str) -> None:
        """Send a session every result of a job, stored and to come."""
        if job_id in self._book.jobs or job_id in self._book.kept:
            self._readers[session, job_id] = 0

    def detach(self, session: Session, job_id: str) -> None:
        """Send it no more."""
        self._readers.pop((session, job_id), None)
        job = self._book.jobs.get(job_id)
        if job is not None:
            job.watchers.discard(session)

    def leave(self, session: Session) -> None:
        """A session is over."""
        for reader, job_id in list(self._readers):
            if reader is session:
                self.detach(session, job_id)
        for job in self._book.jobs.values():
            job.watchers.discard(session)

    def page(self) -> None:
        """Read on for everyone who can take more."""
        book = self._book
        for (session, job_id), position in list(self._readers.items()):
            if session.unacked_bytes >= session.result_limit:
                continue
            page = book.store.results(job_id, position, book.limits.page_bytes)
            for stored in page:
                book.tell(session, stored.group)
                self._readers[session, job_id] = stored.position
            job = book.jobs.get(job_id)
            if not page and job not in book.unwritten:
                del self._readers[session, job_id]
                if job is not None:
                    job.watchers.add(session)
        book.unwritten.clear()

    @property
    def reading(self) -> bool:
        """Whether somebody has stored results to come and room for them."""
        return any(session.unacked_bytes < session.result_limit for session, _ in self._readers)

    # Restart and retention

    def restore(self, stored: StoredJob) -> None:
        """Bring a job back as the journal has it, every unfinished task queued."""
        book = self._book
        if stored.summary is not None:
            book.kept[stored.id] = stored.summary
            return
        options = JobOptions.from_map(stored.options)
        owner = self.owner(stored.owner)
        submitted = stored.submitted - book.epoch
        job = Job(stored.id, owner, stored.function, options, submitted)
        book.jobs[job.id] = owner.jobs[job.id] = job
        function = book.store.function(stored.function)
        if function is not None:
            book.functions.add(function)
        job.waiting = not book.functions.use(job)
        job.append([SPILLED] * stored.total)
        book.queued += stored.total
        owner.unfinished += stored.total
        for index, status in stored.ended.items():
            for piece in job.pieces([index]):
                state = _STATES.get(Status(status), State.FAILED)
                book.queued -= 1
                owner.unfinished -= 1
                job.end(piece, State.QUEUED, state)
        for index, floor in stored.floors.items():
            for chunk, lo, _ in job.pieces([index]):
                chunk.attempts[lo] = floor - 1
        job.paused = "paused" in stored.marks
        job.held = True
        if stored.closed:
            job.close()
        book.timers.at(book.now + book.limits.rejoin_wait, lambda _now: self._release(job))
        if "cancelled" in stored.marks:
            for piece in job.every_piece(State.QUEUED):
                book.stop(piece, None)
        elif job.finished:
            book.retire(job)

    def start(self) -> None:
        """After every job is restored: those that wait for others, and the sweep of old results."""
        for job in list(self._book.jobs.values()):
            self.follow(job)
        self._sweep(self._book.now)

    def forget(self, job_id: str) -> None:
        """Delete a job that is over, with its results."""
        del self._book.kept[job_id]
        for reader in [reader for reader in self._readers if reader[1] == job_id]:
            del self._readers[reader]
        self._book.record(JobForgotten(job_id))

    def _release(self, job: Job) -> None:
        job.held = False
        self._book.ready.add(job)

    def _sweep(self, now: float) -> None:
        limits = self._book.limits
        oldest = now + self._book.epoch - limits.keep_results
        for job_id, summary in list(self._book.kept.items()):
            if summary.get("ended", 0.0) < oldest:
                self.forget(job_id)
        self._book.timers.at(now + _SWEEP_SECONDS, self._sweep)

    def _spill(self, job: Job, first: int, stop: int) -> None:
        """Keep the payloads of tasks that have not ended in the journal only."""
        size = 0
        for chunk, lo, hi in job.pieces(list(range(first, stop))):
            kept = [body for body in chunk.payloads[lo:hi] if body is not None]
            size += total(kept)
            chunk.payloads[lo:hi] = [
                None if body is None else SPILLED for body in chunk.payloads[lo:hi]
            ]
        job.session.unfinished_bytes -= size
        self._book.resident -= size
