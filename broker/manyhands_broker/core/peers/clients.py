"""What clients say, and what becomes of their sessions."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.quotas import Ledger
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.peers.asking.orders import Orders
from manyhands_broker.core.peers.asking.requests import Requests
from manyhands_broker.core.peers.asking.retrying import Retries
from manyhands_broker.core.peers.cancellation import Cancellation
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.orphans import Orphans
from manyhands_broker.core.peers.relays.inspections import Inspections
from manyhands_broker.core.peers.relays.printing import Printing
from manyhands_broker.core.peers.relays.value_relay import ValueRelay
from manyhands_broker.core.peers.results import Outcomes
from manyhands_broker.core.peers.standings import Standings
from manyhands_broker.core.peers.submissions import Submissions
from manyhands_broker.core.state.delayed_acks import DelayedAcks
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.protocol.messages import (
    PROTOCOL_VERSION,
    Accepted,
    Ack,
    Attach,
    Bye,
    Cancel,
    ClientHello,
    ClientWelcome,
    Dependencies,
    Detach,
    Function,
    Inputs,
    KnownResults,
    Message,
    Need,
    Ping,
    Pong,
    Query,
    Refused,
    Relay,
    Results,
    Span,
    Standing,
    Stock,
    Submit,
    Taken,
    Throttle,
)


class Clients:
    """Sessions: how they begin, submit, are answered, and end."""

    def __init__(
        self,
        transitions: Transitions,
        durable: Durable,
        orphans: Orphans,
        delayed_acks: DelayedAcks,
        outcomes: Outcomes,
        value_relay: ValueRelay,
        standings: Standings,
        printing: Printing,
    ) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self._durable = durable
        self._outcomes = outcomes
        self._value_relay = value_relay
        self._standings = standings
        self._printing = printing
        self._task_inputs = outcomes.task_inputs
        self._cancellation = Cancellation(transitions)
        self.submissions = Submissions(
            transitions,
            durable,
            orphans,
            delayed_acks,
            outcomes,
            value_relay,
            standings,
            self._cancellation,
        )
        self.inspections = Inspections(self._state)
        retries = Retries(self._state, durable, self.submissions)
        self.requests = Requests(
            self._state,
            Orders(self._state, durable, self._cancel_whole, standings, retries),
            self.inspections,
        )

    def hello(self, peer: bytes, hello: ClientHello, who: Identity, now: float) -> None:
        """Open a session, or go on with one over a new link."""
        state = self._state
        if not who.submits:
            state.counters["refused_roles"] += 1
            reason = f"the key {who.name or 'used'} is a worker's: a client takes a client's"
            state.send(peer, Refused("role", reason))
            return
        if hello.protocol != PROTOCOL_VERSION:
            state.counters["refused_protocol"] += 1
            state.send(peer, Refused("protocol", _versions(hello.protocol)))
            return
        session = state.sessions.get(hello.session)
        if session is not None and session.who.key != who.key:
            state.send(peer, Refused("bad-hello", "the session was opened with another key"))
            return
        if session is not None and not session.confirmed:
            # Its welcome may have been lost with the link: had it said `resumed=false`, the client
            # would take the next results for old ones. There is nothing in the session yet.
            self.end(session)
            session = None
        resumed = session is not None
        if session is None:
            session = self._open(peer, hello, who, now)
            if session is None:
                return
        elif session.peer != peer:
            self._unlink(session)
            session.unlinked()
        before = state.session_of.get(peer)
        if before is not None and before is not session:
            # A link is one session's.
            self.lost(before, now)
        session.peer = peer
        session.lost_at = None
        session.heard = now
        session.who = who
        session.name = hello.name
        session.limit = hello.limit
        session.fit(state.fleet.slots)
        session.info = hello.info
        session.host_id = str(hello.info.get("host_id", ""))
        state.session_of[peer] = session
        limits = state.limits
        state.send(
            peer,
            ClientWelcome(
                PROTOCOL_VERSION,
                state.broker_id,
                resumed,
                limits.window_tasks,
                limits.window_bytes,
                limits.ping_interval,
            ),
        )
        if session.ledger.shares > 1:
            self._tell_share(session)
        self._value_relay.opened(session)
        state.acknowledged(session, hello.last_seq)
        for seq, groups, _ in session.unacked:
            state.send(peer, Results(seq, groups))
        if resumed:
            self._standings.all(session)
            self._task_inputs.resumed(session)
        # A function that was asked for over another link, or the question, may be lost with it.
        for digest in state.functions.wanted(session, state.owners.get(session.account, session)):
            state.send(peer, Need(digest))

    def _open(self, peer: bytes, hello: ClientHello, who: Identity, now: float) -> Session | None:
        """Open a new session, if its key may have one more."""
        state, ledger = self._state, self._state.ledgers.of(who)
        if refusal := ledger.refuse_session():
            state.counters["refused_sessions"] += 1
            state.send(peer, Refused("full", refusal))
            return None
        session = Session(hello.session, peer, state.limits.result_bytes, now, ledger)
        if ledger.opened():
            self._tell_shares(ledger)
        state.sessions[hello.session] = session
        if hello.last_seq:
            session.hold_until = state.timers.listened(now) + state.limits.rejoin_wait
        self._probe_later(session, now)
        return session

    def received(self, session: Session, message: Message, now: float) -> None:
        """Take a message of an open session."""
        state = self._state
        session.heard = now
        session.confirmed = True
        self._value_relay.heard(session)
        match message:
            case Submit(groups):
                self.submissions.take(session, groups, now)
            case Ack(seq):
                state.acknowledged(session, seq)
            case Function():
                self.submissions.function(session, message)
            case Cancel(spans):
                for span in spans:
                    self._cancel(session, span)
            case Stock():
                self._value_relay.stocked(session, message)
            case Inputs() | Standing() | Dependencies() | KnownResults():
                self._about_submission(session, message)
            case Taken() | Relay():
                self._about_held(session, message)
            case Ping(counter):
                state.send(session.peer, Pong(counter))
            case Pong(counter):
                session.heard_of(counter)
                self._printing.heard(session)
            case Query():
                self._query(session, message, now)
            case Attach() | Detach() | Throttle():
                self._about_subscription(session, message)
            case Bye():
                self.end(session)
            case _:
                state.counters["unexpected_messages"] += 1

    def _about_submission(
        self, session: Session, message: Inputs | Standing | Dependencies | KnownResults
    ) -> None:
        """Take what the client says of tasks that it is about to submit, or has submitted."""
        if isinstance(message, Inputs):
            session.inputs = message.groups
        elif isinstance(message, Dependencies):
            session.dependencies = message.dependencies
        elif isinstance(message, KnownResults):
            self._task_inputs.known(session, message.groups)
        else:
            self._standings.take(session, message)

    def _query(self, session: Session, query: Query, now: float) -> None:
        """Answer a question; a client that asks on and on and reads nothing is cut off."""
        state = self._state
        if session.answers.nbytes < 2 * state.limits.answer_bytes:
            self.requests.answer(session, query, now)
        else:
            reason = "it asks and does not read the answers"
            state.say(logging.WARNING, f"client {session.name} is cut off: {reason}")
            state.send(session.peer, Refused("full", reason))
            self.end(session)

    def _about_subscription(self, session: Session, message: Attach | Detach | Throttle) -> None:
        """Take what the client wants to see of a durable job."""
        match message:
            case Attach(job_id):
                if session.who.commands or self._state.owner(job_id) == session.account:
                    self._durable.attach(session, job_id)
                else:
                    self._durable.absent(session, job_id)
            case Detach(job_id):
                self._durable.detach(session, job_id)
            case Throttle(job_id, hold):
                self._durable.throttle(session, job_id, pause=hold)

    def lost(self, session: Session, now: float) -> None:
        """Take note that the session has no link; it may come back for a grace time."""
        self._unlink(session)
        session.lost_at = now
        self._state.timers.await_peer(
            now + self._state.limits.session_grace, lambda _now: self._expire(session, now)
        )

    def keys_changed(self, known: Mapping[str, Identity]) -> None:
        """End the sessions whose keys are not let in any more, or not as clients."""
        for session in list(self._state.sessions.values()):
            if not session.who.key:
                continue
            who = known.get(session.who.key)
            if who is not None and who.submits:
                session.who = who
                continue
            reason = f"the key {session.who.name} was revoked"
            self._state.send(session.peer, Refused("revoked", reason))
            self._state.counters["keys_cut"] += 1
            self._state.say(logging.WARNING, f"client {session.name} is cut off: {reason}")
            self.end(session)

    def end(self, session: Session) -> None:
        """Cancel what is left of a session and forget it."""
        state = self._state
        self._unlink(session)
        if state.sessions.pop(session.token, None) is None:
            return
        self._value_relay.ended(session)
        self._printing.ended(session)
        state.reporting.pop(session, None)
        self._durable.leave(session)
        state.ready.drop(session)
        for job in list(session.jobs.values()):
            self._cancellation.remaining(job)
            job.close()
            if job.finished:
                self._transitions.retire(job)
        session.leave()
        state.relieved(session.ledger)

    def _tell_shares(self, ledger: Ledger) -> None:
        """Tell the sessions of a key that their shares of its windows have become smaller."""
        for session in self._state.sessions.values():
            if session.ledger is ledger:
                self._tell_share(session)

    def _tell_share(self, session: Session) -> None:
        share = Accepted([], session.ledger.task_share, session.ledger.byte_share)
        self._state.send(session.peer, share)

    def _about_held(self, session: Session, message: Taken | Relay) -> None:
        """Take what the client says of results that nodes hold for it."""
        act = self._outcomes.taken if isinstance(message, Taken) else self._outcomes.relay
        for span in message.spans:
            job = session.jobs.get(span.job)
            if job is not None:
                act(job, span)

    def _cancel(self, session: Session, span: Span) -> None:
        job = self._state.jobs.get(span.job)
        if job is None:
            return
        if self._state.is_of_another(session, span.job):
            self._state.counters["refused_orders"] += 1
        elif span.indices:
            self._cancellation.tasks(job, span.indices)
        elif job.session is session:
            self._cancellation.whole(job)
        else:
            self._cancel_whole(job)

    def _cancel_whole(self, job: Job) -> None:
        """Cancel a job for another session: the job's own is told, to tell the next broker."""
        self._standings.tell(job, cancelled=job.total)
        self._cancellation.whole(job)

    def _probe_later(self, session: Session, now: float) -> None:
        self._state.timers.at(
            now + 3 * self._state.limits.ping_interval, lambda at: self._probe(session, at)
        )

    def _probe(self, session: Session, now: float) -> None:
        """See whether the link stands of a client that says nothing: it may be gone without a word."""
        state = self._state
        if state.sessions.get(session.token) is not session:
            return
        if now - session.heard > 2 * state.limits.ping_interval:
            state.send(session.peer, Ping(0))
        self._probe_later(session, now)

    def _expire(self, session: Session, lost_at: float) -> None:
        # It may have come back, and have lost another link since.
        if session.lost_at != lost_at:
            return
        # Another may have begun afresh under its token.
        if self._state.sessions.get(session.token) is session:
            self._state.say(
                logging.INFO, f"client {session.name or session.token.hex()[:8]} did not come back"
            )
            self._state.counters["sessions_expired"] += 1
            self.end(session)

    def _unlink(self, session: Session) -> None:
        if session.peer is not None:
            self._state.session_of.pop(session.peer, None)
            self._state.forget(session.peer)
            session.peer = None


def _versions(other: int) -> str:
    return (
        f"the broker speaks protocol {PROTOCOL_VERSION} and this peer {other}; "
        "install the same version of manyhands on both"
    )
