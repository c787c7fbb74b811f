"""What clients say, and what becomes of their sessions."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from manyhands_broker.core.access import Identity
from manyhands_broker.core.book import Book
from manyhands_broker.core.cancelling import Cancelling
from manyhands_broker.core.control import Control
from manyhands_broker.core.courtesy import Courtesy
from manyhands_broker.core.durable import Durable
from manyhands_broker.core.exchange import Exchange
from manyhands_broker.core.functions import is_true
from manyhands_broker.core.job import Job
from manyhands_broker.core.orphans import Orphans
from manyhands_broker.core.outcomes import Outcomes
from manyhands_broker.core.report import answer
from manyhands_broker.core.session import Session
from manyhands_broker.core.standings import Standings
from manyhands_broker.core.states import State
from manyhands_shared.errors import ProtocolError
from manyhands_shared.failure import Failure
from manyhands_shared.messages import (
    DENIED,
    PROTOCOL_VERSION,
    Ack,
    Attach,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Detach,
    Function,
    InputGroup,
    Inputs,
    Message,
    Need,
    Ping,
    Pong,
    Query,
    Refused,
    Rejected,
    Relay,
    Reply,
    Results,
    Span,
    Standing,
    Status,
    Stock,
    Submit,
    SubmitGroup,
    Taken,
    Throttle,
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
        outcomes: Outcomes,
        exchange: Exchange,
        standings: Standings,
    ) -> None:
        self._book = book
        self._durable = durable
        self._orphans = orphans
        self._courtesy = courtesy
        self._outcomes = outcomes
        self._exchange = exchange
        self._standings = standings
        self._cancelling = Cancelling(book)
        self._control = Control(book, durable, self._cancel_whole, standings)

    def hello(self, peer: bytes, hello: ClientHello, who: Identity, now: float) -> None:
        """Open a session, or go on with one over a new link."""
        book = self._book
        if not who.submits:
            book.counters["refused_roles"] += 1
            reason = f"the key {who.name or 'used'} is a worker's: a client takes a client's"
            book.send(peer, Refused("role", reason))
            return
        if hello.protocol != PROTOCOL_VERSION:
            book.counters["refused_protocol"] += 1
            book.send(peer, Refused("protocol", _versions(hello.protocol)))
            return
        session = book.sessions.get(hello.session)
        if session is not None and session.who.key != who.key:
            book.send(peer, Refused("bad-hello", "the session was opened with another key"))
            return
        if session is not None and not session.confirmed:
            # Its welcome may have been lost with the link: had it said `resumed=false`, the client
            # would take the next results for old ones. There is nothing in the session yet.
            self.end(session)
            session = None
        resumed = session is not None
        if session is None:
            if not who.commands and book.sessions_of[who.key] >= book.limits.key_sessions:
                text = f"the key {who.name} has {book.limits.key_sessions} sessions open already"
                book.send(peer, Refused("full", text))
                return
            book.sessions_of[who.key] += 1
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
        session.who = who
        session.name = hello.name
        session.limit = hello.limit
        session.fit(book.fleet.slots)
        session.info = hello.info
        session.host_id = str(hello.info.get("host_id", ""))
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
        self._exchange.opened(session)
        session.acknowledge(hello.last_seq)
        for seq, groups, _ in session.unacked:
            book.send(peer, Results(seq, groups))
        if resumed:
            self._standings.all(session)
        # A function that was asked for over another link, or the question, may be lost with it.
        for digest in book.functions.wanted(session, book.owners.get(session.account, session)):
            book.send(peer, Need(digest))
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
                self._function(session, message)
            case Cancel(spans):
                for span in spans:
                    self._cancel(session, span)
            case Stock():
                self._exchange.stocked(session, message)
            case Inputs() | Standing():
                self._about_submission(session, message)
            case Taken() | Relay():
                self._about_held(session, message)
            case Ping(counter):
                book.send(session.peer, Pong(counter))
            case Pong():
                pass
            case Query():
                book.send(session.peer, self._answer(session, message, now))
            case Attach() | Detach() | Throttle():
                self._about_watching(session, message)
            case Bye():
                self.end(session)
            case _:
                book.counters["unexpected_messages"] += 1

    def _about_submission(self, session: Session, message: Inputs | Standing) -> None:
        """What the client says of tasks that it is about to submit."""
        if isinstance(message, Inputs):
            session.inputs = message.groups
        else:
            self._standings.take(session, message)

    def _about_watching(self, session: Session, message: Attach | Detach | Throttle) -> None:
        """What the client wants to see of a durable job."""
        match message:
            case Attach(job_id):
                if session.who.commands or self._book.owner(job_id) == session.account:
                    self._durable.attach(session, job_id)
                else:
                    self._durable.absent(session, job_id)
            case Detach(job_id):
                self._durable.detach(session, job_id)
            case Throttle(job_id, hold):
                self._durable.throttle(session, job_id, hold=hold)

    def _function(self, session: Session, message: Function) -> None:
        book = self._book
        # Without just one body it is none, and nodes would wait for another one for ever.
        sound = len(message.bodies) == 1
        if not (sound and (session.who.commands or is_true(message))):
            book.counters["refused_functions"] += 1
            return
        jobs = book.functions.add(message)
        self._durable.arrived(jobs, message)
        for job in jobs:
            job.waiting = False
            book.ready.add(job)

    def lost(self, session: Session, now: float) -> None:
        """The session has no link; it is kept for a grace time."""
        self._unlink(session)
        session.lost_at = now
        self._book.timers.at(
            now + self._book.limits.session_grace, lambda at: self._expire(session, at)
        )

    def keys_changed(self, known: Mapping[str, Identity]) -> None:
        """End the sessions whose keys are not let in any more, or not as clients."""
        for session in list(self._book.sessions.values()):
            if not session.who.key:
                continue
            who = known.get(session.who.key)
            if who is not None and who.submits:
                session.who = who
                continue
            reason = f"the key {session.who.name} was revoked"
            self._book.send(session.peer, Refused("revoked", reason))
            self._book.counters["keys_cut"] += 1
            self._book.say(logging.WARNING, f"client {session.name} is cut off: {reason}")
            self.end(session)

    def end(self, session: Session) -> None:
        """Cancel what is left of a session and forget it."""
        book = self._book
        self._unlink(session)
        if book.sessions.pop(session.token, None) is None:
            return
        book.sessions_of[session.who.key] -= 1
        if not book.sessions_of[session.who.key]:
            del book.sessions_of[session.who.key]
        self._exchange.ended(session)
        book.reporting.pop(session, None)
        self._durable.leave(session)
        book.ready.drop(session)
        for job in list(session.jobs.values()):
            self._cancelling.rest(job)
            job.close()
            if job.finished:
                book.retire(job)

    def _about_held(self, session: Session, message: Taken | Relay) -> None:
        """What the client says of results that nodes hold for it."""
        act = self._outcomes.taken if isinstance(message, Taken) else self._outcomes.relay
        for span in message.spans:
            job = session.jobs.get(span.job)
            if job is not None:
                act(job, span)

    def _submit(self, session: Session, groups: list[SubmitGroup], now: float) -> None:
        book = self._book
        count = sum(len(group.bodies) for group in groups)
        inputs, session.inputs = session.inputs, []
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
                self._reject(session, group, str(error))
                known = book.jobs.get(group.job)
                if known is not None and known.options.durable:
                    # What there is of it is confirmed all the same, as in answer to every submission.
                    counts[known.id] = known.total
                    durable = True
                continue
            if job.closed:
                self._too_late(session, group, job.total)
            self._append(job, group)
            counts[job.id] = job.total
            durable = durable or job.options.durable
        if inputs:
            self._refer(session, inputs, count)
        self._courtesy.accept(session, counts, count, now=durable)

    def _refer(self, session: Session, inputs: list[InputGroup], most: int) -> None:
        """What of the stored values the tasks of a submission, at `most` so many, refer to."""
        for group in inputs:
            most -= group.count
            job = session.jobs.get(group.job)
            if most >= 0 and job is not None:
                items = self._exchange.referred(session, group)
                job.refer(group.first, group.count, items)
                for item in items:
                    item.settle()  # where all of these tasks have ended

    def _reject(self, session: Session, group: SubmitGroup, reason: str) -> None:
        """Turn a group down. Where there is no job, all of it is: it need not be closed then."""
        first, known = 0, self._book.jobs.get(group.job)
        if known is not None:
            first = group.first
            if known.options.durable and not self._is_of_another(session, known.id):
                first = max(first, known.total)  # what is here already stays
        self._book.counters["rejected_submissions"] += 1
        self._book.send(session.peer, Rejected(group.job, first, reason))

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
            if known.options.durable and self._is_of_another(session, known.id):
                raise ProtocolError(f"job {group.job} belongs to another key")
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
        for parent in options.after:
            if self._is_of_another(session, parent):
                raise ProtocolError(f"job {parent}, which this one comes after, is of another key")
        account = session
        if options.durable:
            self._durable.refuse(group, options)
            self._durable.recall(group.function)
            account = self._durable.owner(session.account)
        job = Job(group.job, account, group.function, options, now)
        book.jobs[job.id] = account.jobs[job.id] = job
        book.counters["jobs_submitted"] += 1
        job.waiting = not book.functions.use(job)
        if job.waiting:
            book.send(session.peer, Need(group.function))
        if options.durable:
            self._durable.opened(job, session.account, group.first)
            self._durable.follow(job)
        self._standings.apply(session, job, now)
        hold_until = max(session.hold_until, book.resting_ids.get(job.id, 0.0))
        if hold_until > now:
            job.held = True
            book.timers.at(hold_until, lambda _now: self._unhold(job), job)
        self.limit(job)
        return job

    def limit(self, job: Job) -> None:
        """See to the deadline of a new job, or of one that comes from before the broker's start."""
        if job.options.deadline:
            when = job.submitted + job.options.deadline
            self._book.timers.at(when, lambda _now: self._overdue(job), job)

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
            self._outcomes.results(node, group)

    def _overdue(self, job: Job) -> None:
        """The deadline of a job has come."""
        if not job.finished:
            seconds = job.options.deadline
            failure = Failure(
                "manyhands.TaskTimeout", f"the job's deadline of {seconds:g} s has passed"
            )
            job.ending = Status.TIMED_OUT, failure.encode()
            job.doomed = True
            self._cancelling.rest(job)

    def _is_of_another(self, session: Session, job_id: str) -> bool:
        """Whether a job is there and this session may not have what is in it."""
        owner = self._book.owner(job_id)
        return not session.who.commands and owner is not None and owner != session.account

    def _answer(self, session: Session, query: Query, now: float) -> Reply:
        request, what, arguments = query.request, query.what, query.arguments
        owner = self._book.owner(str(arguments.get("id", "")))
        refusal = session.who.why_not(what, session.account, owner)
        if refusal:
            self._book.counters["refused_orders"] += 1
            return Reply(request, refusal, DENIED)
        order = self._control.orders.get(what)
        try:
            data = order(arguments) if order else answer(self._book, what, arguments, now)
        except LookupError as error:
            return Reply(request, str(error.args[0]), None)
        if what == "job":
            owner = str(data.get("owner"))
            mine = session.who.commands or owner == session.account
            data = {**data, "mine": mine, "trusted": Identity.vouches(session.account, owner)}
        return Reply(request, "", data)

    def _cancel(self, session: Session, span: Span) -> None:
        job = self._book.jobs.get(span.job)
        if job is None:
            return
        if self._is_of_another(session, span.job):
            self._book.counters["refused_orders"] += 1
        elif span.indices:
            self._cancelling.tasks(job, span.indices)
        elif job.session is session:
            self._cancelling.whole(job)
        else:
            self._cancel_whole(job)

    def _cancel_whole(self, job: Job) -> None:
        """Cancel a job on somebody else's behalf: its own session is to know, for another broker."""
        self._standings.job(job, cancelled=job.total)
        self._cancelling.whole(job)

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
