"""What tasks of attached jobs print: from their nodes to the clients whose jobs these are.

Nothing waits for a terminal. What a client leaves unread beyond `UNREAD_BYTES`, or the sessions of a
key beyond a few times that, is dropped, and the lines are counted. The client is told how many as soon
as it has read all that it was sent.
"""

from __future__ import annotations

from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.quotas import SESSIONS_WORTH
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.unread import PING_BYTES
from manyhands_broker.core.peers.results import Outcomes
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import Ping, Printed, PrintedGroup, Span

#: What one session may leave unread, in bytes, and what a group takes beside its text.
UNREAD_BYTES = 4 << 20
_OVERHEAD = 100
_MOST_LOST = (1 << 32) - 1


class Printing:
    """Passes printed lines on, to the session alone whose job it is."""

    def __init__(self, state: SchedulerState, outcomes: Outcomes) -> None:
        self._state = state
        self._outcomes = outcomes
        #: Sessions for which lines were dropped: the last group, and lines since they were last told.
        self._lost: dict[Session, tuple[PrintedGroup, int]] = {}

    def received(self, node: Node, message: Printed) -> None:
        """Send each client what tasks of its jobs have printed on a node; drop what is of others."""
        by_session: dict[Session, list[PrintedGroup]] = {}
        for group in message.groups:
            job = self._state.jobs.get(group.job)
            if job is None or not job.options.echo or not self._runs(node, group):
                self._state.counters["refused_output"] += 1
            else:
                by_session.setdefault(job.session, []).append(group)
        for session, groups in by_session.items():
            self._send(session, node.name, groups)

    def heard(self, session: Session) -> None:
        """Tell a client that has read all that it was sent what was left out meanwhile."""
        if session in self._lost and session.printed.nbytes < PING_BYTES:
            self._send(session, "", [])

    def ended(self, session: Session) -> None:
        """Forget a session."""
        self._lost.pop(session, None)

    def _runs(self, node: Node, group: PrintedGroup) -> bool:
        """Return whether a node was given tasks of a job, or holds this one from before."""
        if node in self._state.jobs[group.job].known_by:
            return True
        return any(self._outcomes.owned(node, Span(group.job, group.attempt, [group.index])))

    def _send(self, session: Session, node: str, groups: list[PrintedGroup]) -> None:
        size = sum(len(group.text) + _OVERHEAD for group in groups)
        if session.peer is None or self._has_too_much_unread(session, size):
            lines = sum(group.text.count("\n") + group.lost for group in groups)
            self._state.counters["dropped_lines"] += lines
            before = self._lost.get(session)
            if groups:
                self._lost[session] = groups[-1], lines + (before[1] if before else 0)
            return
        if (lost := self._lost.pop(session, None)) is not None:
            last, lines = lost
            told = PrintedGroup(
                last.job, last.attempt, last.index, last.stream, min(lines, _MOST_LOST), ""
            )
            groups = [told, *groups]
        self._state.send(session.peer, Printed(node, groups))
        number = self._state.random.getrandbits(63) | 1
        if session.printed.sent(size, number):
            self._state.send(session.peer, Ping(number))

    @staticmethod
    def _has_too_much_unread(session: Session, size: int) -> bool:
        unread = session.printed.nbytes
        if not unread:
            return False
        most = session.ledger.printed_bytes >= SESSIONS_WORTH * UNREAD_BYTES
        return most or unread + size > UNREAD_BYTES
