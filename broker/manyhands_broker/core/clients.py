"""What clients say, and what becomes of their sessions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from manyhands_broker.core.book import Book
from manyhands_broker.core.control import Control
from manyhands_broker.core.courtesy import Courtesy
from manyhands_broker.core.durable import Durable
from manyhands_broker.core.job import Job, Piece
from manyhands_broker.core.node import Node
from manyhands_broker.core.orphans import Orphans
from manyhands_broker.core.records import JobClosed, JobMarked
from manyhands_broker.core.report import answer
from manyhands_broker.core.session import Session
from manyhands_broker.core.states import State
from manyhands_shared.errors import ProtocolError
from manyhands_shared.failure import Failure
from manyhands_shared.messages import (
    PROTOCOL_VERSION,
    Ack,
    Attach,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Detach,
    Function,
    Message,
    Need,
    Ping,
    Pong,
    Query,
    Refused,
    Rejected,
    Reply,
    ResultGroup,
    Results,
    Span,
    Status,
    Submit,
    SubmitGroup,
)
from manyhands_shared.options import JobOptions
from manyhands_shared.serial import total


class Clients:
    """Sessions: how they begin, submit, are answered, and end."""

    def __init__(
        self,
        book: Book,
        durable: Durable,
        orphans: Orphans,
        courtesy: Courtesy,
        replay: Callable[[Node, ResultGroup], None],
    ) -> None:
        """`replay` takes results of tasks that were adopted a moment ago."""
        self._book = book
        self._durable = durable
        self._orphans = orphans
        self._courtesy = courtesy
        self._replay = replay
        self._control = Control(book, durable, self._cancel_whole)

    def hello(self, peer: bytes, hello: ClientHello, now: float) -> None:
        """Open a session, or go on with one over a new link."""
        book = self._book
        if hello.protocol != PROTOCOL_VERSION:
            book.counters["refused_protocol"] += 1
            book.send(peer, Refused("protocol", _versions(hello.protocol)))
            return
        session = book.sessions.get(hello.session)
        if session is not None and not session.confirmed:
            # Its welcome may have been lost with the link: had it said `resumed=false`, the client
            # would take the next results for old ones. There is nothing in the session yet.
            self.end(session)
            session = None
        resumed = session is not None
        if session is None:
            session = Session(hello.session, peer, book.limits.result_bytes, now)
            book.sessions[hello.session] = session
            if hello.last_seq:
                session.hold_until = now + book.limits.rejoin_wait
            self._watch(session, now)
        elif session.peer != peer:
            self._unlink(session)
        session.peer = peer
        session.lost_at = None
        session.heard = now
        session.name = hello.name
        session.limit = hello.limit
        session.fit(book.fleet.slots)
        session.info = hello.info
        book.session_of[peer] = session
        limits = book.limits
        book.send(
            peer,
            ClientWelcome(
                PROTOCOL_VERSION,
                book.broker_id,
                resumed,
                limits.window_tasks,
                limits.window_bytes,
                limits.ping_interval,
            ),
        )
        session.acknowledge(hello.last_seq)
        for seq, groups, _ in session.unacked:
            book.send(peer, Results(seq, groups))
        book.unpark(session)

    def received(self, session: Session, message: Message, now: float) -> None:
        """A message of an open session."""
        book = self._book
        session.heard = now
        session.confirmed = True
        match message:
            case Submit(groups):
                self._submit(session, groups, now)
            case Ack(seq):
                session.acknowledge(seq)
                book.unpark(session)
            case Function():
                jobs = book.functions.add(message)
                self._durable.arrived(jobs, message)
                for job in jobs:
                    job.waiting = False
                    book.ready.add(job)
            case Cancel(spans):
                for span in spans:
                    self._cancel(span)
            case Ping(counter):
                book.send(session.peer, Pong(counter))
            case Pong():
                pass
            case Query(request, what, arguments):
                book.send(session.peer, self._answer(request, what, arguments, now))
            case Attach(job_id):
                self._durable.attach(session, job_id)
            case Detach(job_id):
                self._durable.detach(session, job_id)
            case Bye():
                self.end(session)
            case _:
                book.counters["unexpected_messages"] += 1

    def lost(self, session: Session, now: float) -> None:
        """The session has no link; it is kept for a grace time."""
        self._unlink(session)
        session.lost_at = now
        self._book.timers.at(
            now + self._book.limits.session_grace, lambda at: self._expire(session, at)
        )

    def end(self, session: Session) -> None:
        """Cancel what is left of a session and forget it."""
        book = self._book
        self._unlink(session)
        if book.sessions.pop(session.token, None) is None:
            return
        book.reporting.pop(session, None)
        self._durable.leave(session)
        book.ready.drop(session)
        for job in list(session.jobs.values()):
            self._cancel_job(job)
            job.close()
            if job.finished:
                book.retire(job)

    def _submit(self, session: Session, groups: list[SubmitGroup], now: float) -> None:
        book = self._book
        count = sum(len(group.bodies) for group in groups)
        if session.unfinished + count > 2 * book.limits.window_tasks:
            book.send(
                session.peer, Refused("full", "more tasks came than the session's window allows")
            )
            return
        counts: dict[str, int] = {}
        durable = False
        for group in groups:
            if group.job in session.retired:
                counts[group.job] = session.retired[group.job]
                continue
            if group.job in book.kept:
                counts[group.job] = book.kept[group.job]["tasks"]
                self._too_late(session, group, counts[group.job])
                durable = True
                continue
            try:
                job = self._job_of(session, group, now)
            except ProtocolError as error:
                book.counters["rejected_submissions"] += 1
                book.send(session.peer, Rejected(group.job, group.first, str(error)))
                continue
            if job.closed:
                self._too_late(session, group, job.total)
            self._append(job, group)
            counts[job.id] = job.total
            durable = durable or job.options.durable
        self._courtesy.accept(session, counts, count, now=durable)

    def _too_late(self, session: Session, group: SubmitGroup, known: int) -> None:
        """Say which tasks of a group come after their job was closed. Copies of others are fine."""
        if group.first + len(group.bodies) > known:
            reason = f"job {group.job} is over or was cancelled: it takes no more tasks"
            self._book.counters["rejected_submissions"] += 1
            self._book.send(session.peer, Rejected(group.job, max(group.first, known), reason))

    def _append(self, job: Job, group: SubmitGroup) -> None:
        """Take what is new in a group; a copy of what came before changes nothing."""
        book, session = self._book, job.session
        if not job.closed:
            if group.first > job.total:
                job.skip_to(group.first)
            first = job.total
            bodies = group.bodies[first - group.first :]
            size = total(bodies)
            job.append(bodies)
            session.unfinished += len(bodies)
            session.unfinished_bytes += size
            book.queued += len(bodies)
            book.counters["tasks_submitted"] += len(bodies)
            if group.closed:
                job.close()
            if job.options.durable:
                book.resident += size
                self._durable.taken(job, first, bodies, closed=group.closed)
            self._adopt(job)
            if job.doomed:
                for piece in job.every_piece(State.QUEUED):
                    book.stop(piece, None)
        if job.finished:
            book.retire(job)
        else:
            book.ready.add(job)

    def _job_of(self, session: Session, group: SubmitGroup, now: float) -> Job:
        book = self._book
        known = book.jobs.get(group.job)
        if known is not None:
            if known.options.durable:
                self._durable.refuse(group, known.options, known.total)
            elif known.session is not session:
                raise ProtocolError(f"job {group.job} belongs to another session")
            return known
        if not group.job:
            raise ProtocolError("a job without an id")
        if group.options is None:
            raise ProtocolError("its first tasks were not taken, so what it asks for is not known")
        options = JobOptions.from_map(group.options)
        if options.after and not options.durable:
            raise ProtocolError("only a durable job can come after others")
        account = session
        if options.durable:
            self._durable.refuse(group, options)
            self._durable.recall(group.function)
            account = self._durable.owner(session.name)
        job = Job(group.job, account, group.function, options, now)
        book.jobs[job.id] = account.jobs[job.id] = job
        book.counters["jobs_submitted"] += 1
        job.waiting = not book.functions.use(job)
        if job.waiting:
            book.send(session.peer, Need(group.function))
        if options.durable:
            self._durable.opened(job, session.name)
            self._durable.follow(job)
        if session.hold_until > now:
            job.held = True
            book.timers.at(session.hold_until, lambda _now: self._unhold(job))
        self.limit(job)
        return job

    def limit(self, job: Job) -> None:
        """See to the deadline of a new job, or of one that comes from before the broker's start."""
        if job.options.deadline:
            when = job.submitted + job.options.deadline
            self._book.timers.at(when, lambda _now: self._overdue(job))

    def _unhold(self, job: Job) -> None:
        job.held = False
        self._book.ready.add(job)

    def _adopt(self, job: Job) -> None:
        """Take over what nodes run of a job that comes from before the broker's start."""
        adopted, results, unwanted = self._orphans.claim(job)
        for piece, node, attempt in adopted:
            self._book.adopt(piece, node, attempt)
        job.withdraw(piece.indices.start for piece, _, _ in adopted)
        for node, span in unwanted:
            self._book.send(node.peer, Cancel([span]))
        for node, group in results:
            self._replay(node, group)

    def _overdue(self, job: Job) -> None:
        """The deadline of a job has come."""
        if not job.finished:
            seconds = job.options.deadline
            failure = Failure(
                "manyhands.TaskTimeout", f"the job's deadline of {seconds:g} s has passed"
            )
            job.ending = Status.TIMED_OUT, failure.encode()
            job.doomed = True
            self._cancel_job(job)

    def _answer(self, request: int, what: str, arguments: dict[str, Any], now: float) -> Reply:
        order = self._control.orders.get(what)
        try:
            data = order(arguments) if order else answer(self._book, what, arguments, now)
        except LookupError as error:
            return Reply(request, str(error.args[0]), None)
        return Reply(request, "", data)

    def _cancel(self, span: Span) -> None:
        job = self._book.jobs.get(span.job)
        if job is None:
            return
        if not span.indices:
            self._cancel_whole(job)
            return
        for piece in job.pieces(span.indices):
            for offset in range(piece.lo, piece.hi):
                state = piece.chunk.states[offset]
                single = Piece(piece.chunk, offset, offset + 1)
                if state == State.QUEUED:
                    self._cancel_queued(single)
                elif state == State.ASSIGNED:
                    self._cancel_assigned(single)

    def _cancel_whole(self, job: Job) -> None:
        """Cancel what is there; a durable job is over with that, also after a restart."""
        if job.options.durable:
            self._book.record(JobMarked(job.id, "cancelled"))
            if not job.closed:
                self._book.record(JobClosed(job.id))
                job.close()
        self._cancel_job(job)
        if job.finished:
            self._book.retire(job)

    def _cancel_job(self, job: Job) -> None:
        for piece in job.every_piece(State.QUEUED):
            self._cancel_queued(piece)
        job.ready.clear()
        for piece in job.every_piece(State.ASSIGNED):
            self._cancel_assigned(piece)

    def _cancel_queued(self, piece: Piece) -> None:
        self._book.stop(piece, None)

    def _cancel_assigned(self, piece: Piece) -> None:
        job = piece.chunk.job
        spans: dict[tuple[bytes, int], list[int]] = {}
        for offset, index in enumerate(piece.indices, piece.lo):
            node = piece.chunk.holders[offset]
            if node is not None and index not in job.cancelling:
                job.cancelling.add(index)
                spans.setdefault((node.peer, piece.chunk.attempts[offset]), []).append(index)
        for (peer, attempt), indices in spans.items():
            self._book.send(peer, Cancel([Span(job.id, attempt, indices)]))

    def _watch(self, session: Session, now: float) -> None:
        self._book.timers.at(
            now + 3 * self._book.limits.ping_interval, lambda at: self._probe(session, at)
        )

    def _probe(self, session: Session, now: float) -> None:
        """A client that says nothing may be gone without a word: see whether its link stands."""
        book = self._book
        if book.sessions.get(session.token) is not session:
            return
        if now - session.heard > 2 * book.limits.ping_interval:
            book.send(session.peer, Ping(0))
        self._watch(session, now)

    def _expire(self, session: Session, now: float) -> None:
        lost_at = session.lost_at
        if lost_at is None or now - lost_at < self._book.limits.session_grace:
            return
        # Another may have begun afresh under its token.
        if self._book.sessions.get(session.token) is session:
            self._book.say(
                logging.INFO, f"client {session.name or session.token.hex()[:8]} did not come back"
            )
            self._book.counters["sessions_expired"] += 1
            self.end(session)

    def _unlink(self, session: Session) -> None:
        if session.peer is not None:
            self._book.session_of.pop(session.peer, None)
            self._book.forget(session.peer)
            session.peer = None


def _versions(other: int) -> str:
    return (
        f"the broker speaks protocol {PROTOCOL_VERSION} and this peer {other}; "
        "install the same version of manyhands on both"
    )
