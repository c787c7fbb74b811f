"""Everything the scheduler knows, in one place that its parts share."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from manyhands_broker.core.effects import Effect, Forget, Persist, Say, Send
from manyhands_broker.core.fleet import Fleet
from manyhands_broker.core.functions import Functions
from manyhands_broker.core.job import Job, Piece
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.node import Node
from manyhands_broker.core.ready import ReadyQueue
from manyhands_broker.core.records import Record
from manyhands_broker.core.report import describe_job
from manyhands_broker.core.session import Session
from manyhands_broker.core.states import State
from manyhands_broker.core.timers import Timers
from manyhands_shared.failure import Failure
from manyhands_shared.messages import Message, ResultGroup, Status
from manyhands_shared.serial import Payload

#: Row of the last-seen table → the figures of the node's last heartbeat.
Figures = Callable[[int], dict[str, Any]]

#: What a cancelled task's failure payload says.
CANCELLED = Failure("concurrent.futures.CancelledError", "the task was cancelled").encode()


class Book:
    """Sessions, jobs, nodes, functions, and the moves of tasks that concern more than one of them."""

    def __init__(self, limits: Limits, broker_id: bytes, epoch: float, figures: Figures) -> None:
        self.limits = limits
        self.broker_id = broker_id
        #: What to add to `now` for the wall clock's time; for people to read, never to decide by.
        self.epoch = epoch
        self.figures = figures
        self.sessions: dict[bytes, Session] = {}
        self.session_of: dict[bytes, Session] = {}
        self.jobs: dict[str, Job] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=limits.history)
        self.fleet = Fleet(limits)
        self.functions = Functions()
        self.ready = ReadyQueue()
        self.timers = Timers()
        self.counters: Counter[str] = Counter()
        self.events: deque[dict[str, Any]] = deque(maxlen=limits.history)
        #: Sessions with results to send, in the order of their first.
        self.reporting: dict[Session, None] = {}
        #: Tasks in state QUEUED, in all jobs.
        self.queued = 0
        self.effects: list[Effect] = []

    # Effects

    def send(self, peer: bytes | None, message: Message) -> None:
        """Send, if there is anyone to send to."""
        if peer is not None:
            self.effects.append(Send(peer, message))

    def forget(self, peer: bytes | None) -> None:
        """Have the loop drop what waits for a link."""
        if peer is not None:
            self.effects.append(Forget(peer))

    def say(self, level: int, text: str) -> None:
        """Tell the operator."""
        self.effects.append(Say(level, text))

    def record(self, record: Record) -> None:
        """Have the journal hold this before anything of this drain is sent."""
        self.effects.append(Persist(record))

    # Moves of tasks

    def give(self, piece: Piece, node: Node, each: float) -> int:
        """QUEUED → ASSIGNED; returns the attempt number."""
        job = piece.chunk.job
        attempt = job.assign(piece, node)
        node.gain(piece, each)
        if job.suspects:
            node.wary += sum(index in job.suspects for index in piece.indices)
        job.session.assigned += piece.size
        self.queued -= piece.size
        return attempt

    def take_back(self, piece: Piece, node: Node) -> None:
        """ASSIGNED → QUEUED, or CANCELLED where that was wanted."""
        job = piece.chunk.job
        if job.cancelling:
            marked = [index for index in piece.indices if index in job.cancelling]
            if marked:
                for single in _singles(piece):
                    if single.indices.start in job.cancelling:
                        attempt = piece.chunk.attempts[single.lo]
                        self.finish(
                            single, node, State.CANCELLED, attempt, Status.CANCELLED, CANCELLED
                        )
                    else:
                        self._requeue(single, node)
                return
        self._requeue(piece, node)

    def _requeue(self, piece: Piece, node: Node) -> None:
        job = piece.chunk.job
        node.lose(piece)
        job.release(piece)
        job.session.assigned -= piece.size
        self.queued += piece.size
        self.unpark(job.session)
        self.ready.add(job)

    def finish(
        self,
        piece: Piece,
        node: Node | None,
        state: State,
        attempt: int,
        status: Status,
        body: Payload,
    ) -> None:
        """End tasks alike and tell their client."""
        count = piece.size
        self.end(piece, node, state)
        self.report(
            piece.chunk.job,
            ResultGroup(
                piece.chunk.job.id,
                attempt,
                list(piece.indices),
                bytes([status]) * count,
                [body] * count,
                0.0,
            ),
        )

    def end(self, piece: Piece, node: Node | None, state: State) -> None:
        """Move to a terminal state, from ASSIGNED (with its node) or QUEUED (without)."""
        job, session, count = piece.chunk.job, piece.chunk.job.session, piece.size
        if node is None:
            self.queued -= count
            old = State.QUEUED
        else:
            node.lose(piece)
            session.assigned -= count
            old = State.ASSIGNED
            if session.parked:
                self.unpark(session)
        session.unfinished -= count
        session.unfinished_bytes -= job.end(piece, old, state)
        self.counters[f"tasks_{state.name.lower()}"] += count
        if job.closed and job.finished:
            self.retire(job)

    def report(self, job: Job, group: ResultGroup) -> None:
        """Results for the job's client, sent with the next drain."""
        session = job.session
        if session.token in self.sessions:
            session.fresh.append(group)
            self.reporting[session] = None

    def unpark(self, session: Session) -> None:
        """Let a session run again if it was held up and no longer needs to be."""
        if session.parked and session.may_run:
            self.ready.unpark(session)

    # Ends of jobs

    def retire(self, job: Job) -> None:
        """A job is over: keep a line about it."""
        if self.jobs.pop(job.id, None) is None:
            return
        job.session.retire(job)
        self.history.append(describe_job(self, job))
        self.functions.release(job)
        job.known_by.clear()

    def note(self, node: Node, kind: str, text: str, details: dict[str, Any], now: float) -> None:
        """Something that people should know."""
        self.counters[f"events_{kind}"] += 1
        self.events.append(
            {"at": now, "node": node.name, "kind": kind, "text": text, "details": details}
        )
        self.say(logging.WARNING, f"node {node.name}: {text}")


def _singles(piece: Piece) -> list[Piece]:
    return [Piece(piece.chunk, offset, offset + 1) for offset in range(piece.lo, piece.hi)]
