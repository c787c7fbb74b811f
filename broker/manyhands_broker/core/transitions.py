"""Everything the scheduler knows, in one place that its parts share."""

from __future__ import annotations

import logging
import math
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

from manyhands_broker.core.effects import Effect, Forget, Persist, Say, Send
from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.model.job import Job, Piece
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.quotas import Ledger, Ledgers
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.task_state import State
from manyhands_broker.core.queries.answers import describe_job, without_long
from manyhands_broker.core.records import (
    AttemptsStale,
    JobEnded,
    Record,
    TasksEnded,
    TasksStarted,
    TaskTried,
)
from manyhands_broker.core.state import twins
from manyhands_broker.core.state.finished_jobs import Kept
from manyhands_broker.core.state.fleet import Fleet
from manyhands_broker.core.state.function_registry import Functions
from manyhands_broker.core.state.ready_queue import ReadyQueue
from manyhands_broker.core.state.timers import Timers
from manyhands_broker.core.state.twins import Speculation
from manyhands_broker.core.store import Store
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Given, Message, ResultGroup, Status

#: Row of the last-seen table → the figures of the node's last heartbeat.
Figures = Callable[[int], dict[str, Any]]

#: Seconds before tasks of a new job are given out under the id of one that is over: far longer than an
#: acknowledgement takes.
ID_REST = 1.0
#: Characters of an event that are kept and logged.
EVENT_CHARS = 1_000
#: Kinds of events that are counted apart.
MAX_EVENT_KINDS = 64

#: What counts the tasks that ended in each state.
_COUNTER = {state: f"tasks_{state.name.lower()}" for state in State}
#: What the failure payload of a task says that may have run and must not run again.
LOST = Failure(
    "manyhands.TaskLost",
    "what ran the task is gone, and it may not run again (at_most_once); whether it ran is unknown",
).encode()


class Book:
    """Sessions, jobs, nodes, functions, and the moves of tasks that concern more than one of them."""

    def __init__(
        self,
        limits: Limits,
        broker_id: bytes,
        epoch: float,
        figures: Figures,
        store: Store,
        rng: random.Random,
        now: float,
    ) -> None:
        self.now = now
        self.started = now
        self.limits = limits
        self.store = store
        self.random = rng
        self.broker_id = broker_id
        #: What to add to `now` for the wall clock's time; for people to read, never to decide by.
        self.epoch = epoch
        self.figures = figures
        self.sessions: dict[bytes, Session] = {}
        self.session_of: dict[bytes, Session] = {}
        self.ledgers = Ledgers(limits)
        self.jobs: dict[str, Job] = {}
        #: Those on whose account durable jobs run, by name: they have no link and never expire.
        self.owners: dict[str, Session] = {}
        #: Durable jobs that are over, and jobs that wait for a job to be done.
        self.kept = Kept()
        self.followers: dict[str, list[Job]] = {}
        #: Jobs that are over whose followers are still to be told: id, state, followers. A list and no
        #: recursion, for users make chains as long as they like.
        self.over: deque[tuple[str, str, deque[Job]]] = deque()
        #: Ids of durable jobs that had results in this drain: these are not in the store yet.
        self.unwritten: set[str] = set()
        #: Sessions that read stored results: (session, job id) → position reached.
        self.readers: dict[tuple[Session, str], int] = {}
        #: The same, of sessions that have their results held back.
        self.held_readers: dict[tuple[Session, str], int] = {}
        #: Bytes of durable payloads in memory.
        self.resident = 0
        self.history: deque[dict[str, Any]] = deque(maxlen=limits.history)
        self.fleet = Fleet(limits)
        self.functions = Functions()
        self.ready = ReadyQueue()
        self.counters: Counter[str] = Counter()
        #: What has broken for one job, which ends behind the event.
        self.breakdowns = Breakdowns(self.counters, self.say)
        self.timers = Timers(self.breakdowns.of)
        self.event_kinds: set[str] = set()
        #: Jobs that were over a moment ago, by id: when a new one of that id may start.
        self.resting_ids: OrderedDict[str, float] = OrderedDict()
        self.events: deque[dict[str, Any]] = deque(maxlen=limits.history)
        #: Sessions with results to send, in the order of their first.
        self.reporting: dict[Session, None] = {}
        #: Tasks of attached jobs that were given another run; see `standings`.
        self.tried_tasks: dict[Session, dict[tuple[Job, int], None]] = {}
        #: Jobs of which running tasks may have become slow; see `stragglers`.
        self.overdue: dict[Job, None] = {}
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

    def owner(self, job_id: str) -> str | None:
        """On whose account a job runs or ran, as far as more than a line is kept of it."""
        job = self.jobs.get(job_id)
        if job is not None:
            return job.session.account
        kept = self.kept.get(job_id)
        return None if kept is None else str(kept.get("account", kept["session"]))

    def is_of_another(self, session: Session, job_id: str) -> bool:
        """Whether a job is there and this session may not have what is in it."""
        owner = self.owner(job_id)
        return not session.who.commands and owner is not None and owner != session.account

    def open(self, job: Job, cost: int) -> None:
        """There is a new job, whose options take `cost` bytes."""
        self.jobs[job.id] = job.session.jobs[job.id] = job
        job.cost = cost
        ledger = job.session.ledger
        ledger.add_job(job.kind)
        ledger.function_bytes += cost

    # Sessions

    def acknowledged(self, session: Session, seq: int) -> None:
        """A client has taken its results up to `seq`."""
        session.acknowledge(seq)
        self.unpark(session)
        self.relieved(session.ledger)

    def relieved(self, ledger: Ledger) -> None:
        """Sessions of a key were passed over for what others of it left untaken: they may go on."""
        if ledger.parked and not ledger.full:
            for session in list(ledger.parked):
                self.unpark(session)
        self.ledgers.tidy(ledger)

    # Moves of tasks

    def give(self, piece: Piece, node: Node, each: float) -> int:
        """QUEUED → ASSIGNED; returns the attempt number."""
        job = piece.chunk.job
        if not node.held:
            node.last_result = self.now
        attempt = job.assign(piece, node)
        node.gain(piece, each)
        if job.options.at_most_once and job.options.durable:
            self.record(TasksStarted(job.id, list(piece.indices), attempt))
        if job.suspects:
            node.wary += sum(index in job.suspects for index in piece.indices)
        job.session.assigned += piece.size
        self.queued -= piece.size
        if job.speculation is not None:
            self._began(piece, job.speculation)
        return attempt

    def adopt(self, piece: Piece, node: Node, attempt: int) -> None:
        """QUEUED → ASSIGNED in an attempt that `node` runs already. `job.withdraw` has to follow."""
        job = piece.chunk.job
        job.adopt(piece, node, attempt)
        node.gain(piece, job.expected(self.limits.unmeasured))
        job.session.assigned += piece.size
        self.queued -= piece.size
        self.fleet.update(node)
        self.counters["tasks_adopted"] += piece.size
        if job.speculation is not None:
            self._began(piece, job.speculation)

    def _began(self, piece: Piece, kept: Speculation) -> None:
        job = piece.chunk.job
        kept.since.update(dict.fromkeys(piece.indices, self.now))
        if not kept.watched:
            kept.watched = True
            self.look_at(job, self.now + self.limits.speculate_floor)

    def look_at(self, job: Job, when: float) -> None:
        """See at that time whether running tasks of a job have become slow."""
        self.timers.at(when, lambda _now: self.overdue.setdefault(job), job)

    def take_back(self, piece: Piece, node: Node, *, started: bool = True) -> None:
        """ASSIGNED → QUEUED; or to an end, where that was wanted or a second run is not.

        `started`: whether the tasks may have begun to run.
        """
        job = piece.chunk.job
        if job.speculation is not None and job.speculation.twins:
            for single in singles(piece):
                if twins.runs_twice(job, single.indices.start):
                    twins.drop(self, single, node, started=started)
                else:
                    self._take_back(single, node, started)
        else:
            self._take_back(piece, node, started)

    def _take_back(self, piece: Piece, node: Node, started: bool) -> None:
        job = piece.chunk.job
        if job.cancelling:
            for single in singles(piece):
                if single.indices.start in job.cancelling:
                    self.stop(single, node)
                elif started and job.options.at_most_once:
                    self.finish(single, node, State.FAILED, Status.LOST, LOST)
                else:
                    self._requeue(single, node, started)
        elif started and job.options.at_most_once:
            self.finish(piece, node, State.FAILED, Status.LOST, LOST)
        else:
            self._requeue(piece, node, started)

    def stop(self, piece: Piece, node: Node | None) -> None:
        """End tasks that were cancelled, in the way their job wants it."""
        status, body = piece.chunk.job.ending
        state = State.CANCELLED if status == Status.CANCELLED else State.FAILED
        self.finish(piece, node, state, status, body)

    def tried(self, job: Job, index: int, attempt: int) -> None:
        """A task's counts of further runs and of processes that it ended have changed."""
        if job.options.durable:
            story = tuple(job.blames.get(index, ()))
            self.record(TaskTried(job.id, index, job.tries.get(index, 0), story))
        else:
            job.counted[index] = attempt
            self.tried_tasks.setdefault(job.session, {})[job, index] = None

    def postpone(self, piece: Piece, node: Node, delay: float) -> None:
        """ASSIGNED → QUEUED, in line again after `delay` seconds."""
        job = piece.chunk.job
        self._leave(piece, node, started=True)
        job.postpone(piece, self.now + delay)
        self.timers.at(self.now + delay, lambda now: self._revive(job, now), job)

    def _revive(self, job: Job, now: float) -> None:
        job.revive(now)
        self.ready.add(job)

    def _leave(self, piece: Piece, node: Node, *, started: bool) -> None:
        """What is alike for all tasks that go back to the queue."""
        job = piece.chunk.job
        node.lose(piece)
        job.session.assigned -= piece.size
        self.queued += piece.size
        self.unpark(job.session)
        if job.speculation is not None and job.speculation.twins:
            job.speculation.renumber(piece)
        # What a node gave back unstarted it cannot bring again; only where it counts as a run is
        # that worth a record.
        if job.options.durable and (started or job.options.at_most_once):
            floor = piece.chunk.attempts[piece.lo] + 1
            self.record(AttemptsStale(job.id, list(piece.indices), floor))

    def _requeue(self, piece: Piece, node: Node, started: bool) -> None:
        job = piece.chunk.job
        self._leave(piece, node, started=started)
        job.release(piece)
        self.ready.add(job)

    def finish(
        self, piece: Piece, node: Node | None, state: State, status: Status, body: Payload
    ) -> None:
        """End tasks alike and tell whoever waits for them."""
        job, count = piece.chunk.job, piece.size
        attempt = piece.chunk.attempts[piece.lo]
        self.end(piece, node, state)
        indices, statuses = list(piece.indices), bytes([status]) * count
        self.report(job, ResultGroup(job.id, attempt, indices, statuses, [body] * count, 0.0))

    def end(self, piece: Piece, node: Node | None, state: State) -> None:
        """Move to a terminal state, from ASSIGNED (with its node) or QUEUED (without).

        `report` has to follow.
        """
        job, session, count = piece.chunk.job, piece.chunk.job.session, piece.size
        if job.speculation is not None and job.speculation.twins:
            twins.end(self, piece, done=state == State.DONE)
        if node is None:
            self.queued -= count
            old = State.QUEUED
        else:
            node.lose(piece)
            session.assigned -= count
            old = State.ASSIGNED
            if session.parked:
                self.unpark(session)
        freed = job.end(piece, old, state)
        session.took(-count, -freed)
        if job.options.durable:
            self.resident -= freed
        self.counters[_COUNTER[state]] += count

    def report(self, job: Job, group: ResultGroup) -> None:
        """Results that have become final: into the journal and to clients, with this drain."""
        if job.options.durable:
            self.record(TasksEnded(group))
            if job.id not in self.unwritten:
                self._leave_behind(job)
                self.unwritten.add(job.id)
            for session in job.watchers:
                self.tell(session, group)
        elif job.session.token in self.sessions:
            self.tell(job.session, group)
        if job.finished:
            self.retire(job)

    def _leave_behind(self, job: Job) -> None:
        """Have sessions that do not take what they see of a job read on from the store, when they do.

        Only before the job's first results of a drain: all that they saw of it is in the store then.
        """
        slow = [s for s in job.watchers if not s.takes]
        for session in slow:
            job.watchers.discard(session)
            self.readers[session, job.id] = self.store.last_position(job.id)

    def tell(self, session: Session, group: ResultGroup) -> None:
        """Results for a session, sent with the next message to it."""
        session.fresh.append(group)
        self.reporting[session] = None

    def unpark(self, session: Session) -> None:
        """Let a session run again if it was held up and no longer needs to be."""
        if session.parked and session.may_run:
            self.ready.unpark(session)

    # Ends of jobs

    def retire(self, job: Job) -> None:
        """A job is over: keep a line about it, and let those go on that waited for it."""
        if self.jobs.pop(job.id, None) is None:
            return
        job.session.retire(job)
        self._rest(job)
        summary = describe_job(self, job)
        if job.options.durable:
            summary["ended"] = self.now + self.epoch
            self.kept.add(summary)
            self.record(JobEnded(job.id, summary))
        else:
            summary["options"] = without_long(summary["options"])
            self.history.append(summary)
        self.functions.release(job)
        ledger = job.session.ledger
        ledger.end_job(job.kind)
        ledger.function_bytes -= job.cost
        self.ledgers.tidy(ledger)
        for node in job.known_by:
            node.knows.discard(job)
        job.known_by.clear()
        followers = self.followers.pop(job.id, None)
        if followers:
            self.over.append((job.id, summary["state"], deque(followers)))

    def _rest(self, job: Job) -> None:
        """Nodes hold results of a job until they are acknowledged, and know it by its id alone."""
        ids = self.resting_ids
        # What is being stopped is over once its node has turned its loop, or is given up.
        stopping = job.speculation is not None and twins.is_stopping(self, job)
        ids[job.id] = self.now + ID_REST + stopping * self.limits.lease
        ids.move_to_end(job.id)
        while ids and next(iter(ids.values())) <= self.now:
            ids.popitem(last=False)

    def tell_followers(self, most: int) -> int:
        """Tell at most `most` jobs that one before them is over; returns how many were told."""
        told = 0
        while self.over and told < most:
            parent, state, followers = self.over[0]
            if not followers:
                self.over.popleft()
                continue
            follower = followers.popleft()
            told += 1
            try:
                self.followed(follower, parent, state)
            except Exception as error:  # noqa: BLE001 - reported; it ends this one
                self.breakdowns.of(error, follower)
        return told

    def followed(self, job: Job, parent: str, state: str) -> None:
        """A job that `job` comes after is over."""
        if job.finished or parent not in job.awaits:
            return
        if state != "done":
            self._doom(job, f"job {parent}, which this one comes after, ended as {state}")
            return
        if len(job.awaits) > 1:
            job.awaits.discard(parent)
        else:
            # In a later drain: what the parents returned last is in the store only after this one.
            later = math.nextafter(self.now, math.inf)
            self.timers.at(later, lambda _now: self._start(job), job)

    def _start(self, job: Job) -> None:
        job.awaits.clear()
        for parent in job.options.after:
            position = 0
            while page := self.store.results(parent, position, self.limits.page_bytes):
                job.given += [stored.group for stored in page]
                position = page[-1].position
            if any(any(group.statuses) for group in job.given):
                self._doom(job, f"results of job {parent}, which this one comes after, are lost")
                return
        if wrong := wire.refusal(Given(job.id, job.given)):
            job.given = []
            self._doom(job, f"the results that this job is to be given are too many: {wrong}")
            return
        self.ready.add(job)

    def _doom(self, job: Job, text: str) -> None:
        """Cancel a job for want of what it comes after."""
        job.ending = Status.CANCELLED, Failure("manyhands.TaskError", text).encode()
        job.doomed = True
        for piece in job.every_piece(State.QUEUED):
            self.stop(piece, None)

    def note(
        self, node: Node, kind: str, text: str, details: dict[str, Any], *, private: bool
    ) -> None:
        """Something that people should know; `private`: it may repeat what tasks have printed."""
        # Nodes choose the kinds: one that keeps making up new ones must not make this grow.
        known = kind in self.event_kinds or len(self.event_kinds) < MAX_EVENT_KINDS
        if known:
            self.event_kinds.add(kind)
        self.counters[f"events_{kind if known else 'other'}"] += 1
        self.events.append(
            {
                "at": self.now,
                "node": node.name,
                "kind": kind,
                "text": text[:EVENT_CHARS],
                "details": details,
                "private": private,
            }
        )
        self.say(logging.WARNING, f"node {node.name}: {text[:EVENT_CHARS]}")


def singles(piece: Piece) -> list[Piece]:
    """The same tasks, one by one."""
    return [Piece(piece.chunk, offset, offset + 1) for offset in range(piece.lo, piece.hi)]
