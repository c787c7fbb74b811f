"""Acknowledgements that no peer waits for: sent when they are worth a message, or a moment later.

A lone task needs four messages on its way out and back. Confirming each hop at once would make seven,
and the other three would compete with the next task for the same cores. What a peer does wait for is
confirmed at once: a durable submission, a large result that occupies a node's memory.
"""

from __future__ import annotations

from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import Accepted, Ack, JobCount

#: Longest wait for a confirmation, in seconds.
DELAY = 0.02
#: Unconfirmed messages or tasks after which there is no more waiting.
ENOUGH = 1_024
#: Unconfirmed bytes of results, likewise.
ENOUGH_BYTES = 256 << 10


class DelayedAcks:
    """Acknowledgements to nodes and acceptances to clients, gathered."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        #: Link → (last sequence number, bytes so far).
        self._acks: dict[bytes, tuple[int, int]] = {}
        #: Session → (job → tasks taken, tasks so far).
        self._accepted: dict[Session, tuple[dict[str, int], int]] = {}
        self._due = False

    def acknowledge(self, node: Node, seq: int, nbytes: int) -> None:
        """Acknowledge a node's results up to `seq`, now or soon.

        An older number takes nothing back: behind it the node would keep what is here.
        """
        known, bytes_so_far = self._acks.pop(node.peer, (0, 0))
        seq, nbytes = max(seq, known), nbytes + bytes_so_far
        if nbytes >= ENOUGH_BYTES:
            self._state.send(node.peer, Ack(seq))
        else:
            self._acks[node.peer] = (seq, nbytes)
            self._wait()

    def accept(self, session: Session, counts: dict[str, int], size: int, *, now: bool) -> None:
        """Confirm tasks of a client, now or soon; `now` if it waits to hear so."""
        known, sizes = self._accepted.pop(session, ({}, 0))
        known.update(counts)
        if now or sizes + size >= ENOUGH:
            self._accept(session, known)
        else:
            self._accepted[session] = (known, sizes + size)
            self._wait()

    def _wait(self) -> None:
        if not self._due:
            self._due = True
            self._state.timers.at(self._state.now + DELAY, self._flush)

    def _flush(self, _now: float) -> None:
        self._due = False
        for peer, (seq, _) in self._acks.items():
            if peer in self._state.fleet.by_peer:
                self._state.send(peer, Ack(seq))
        for session, (known, _) in self._accepted.items():
            self._accept(session, known)
        self._acks.clear()
        self._accepted.clear()

    def _accept(self, session: Session, known: dict[str, int]) -> None:
        jobs = [JobCount(job, count) for job, count in known.items()]
        ledger = session.ledger
        self._state.send(session.peer, Accepted(jobs, ledger.task_share, ledger.byte_share))
