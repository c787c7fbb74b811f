"""Everything the scheduler knows, in one place that its parts share, and what it wants done."""

from __future__ import annotations

import logging
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

from manyhands_broker.core.coordination import Coordination
from manyhands_broker.core.effects import Effect, Forget, Persist, Say, Send
from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_broker.core.history.histories import Histories
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.model.identity import Identity
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.quotas import Ledger, Ledgers
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.summaries import describe_job
from manyhands_broker.core.model.task_input import Source
from manyhands_broker.core.records import Record, TaskTried
from manyhands_broker.core.state.finished_jobs import FinishedJobs
from manyhands_broker.core.state.fleet import Fleet
from manyhands_broker.core.state.function_registry import Functions
from manyhands_broker.core.state.job_lines import JobLines
from manyhands_broker.core.state.ready_queue import ReadyQueue
from manyhands_broker.core.state.timers import Timers
from manyhands_broker.core.store import Store
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Message, Recall, ResultGroup, Status
from manyhands_shared.text import amount

#: Row of the last-seen table → the figures of the node's last heartbeat.
Figures = Callable[[int], dict[str, Any]]

#: Characters of an event that are told and logged.
EVENT_CHARS = 1_000
#: Reports of load tests that are kept.
LOAD_TESTS = 8
#: Kinds of events that are counted apart.
MAX_EVENT_KINDS = 64


class SchedulerState:
    """Sessions, jobs, nodes and functions; and the effects of the event at hand."""

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
        #: Since when peers of an earlier life can come back; a stall gives them as much more.
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
        self.finished_jobs = FinishedJobs()
        self.followers: dict[str, list[Job]] = {}
        #: Jobs that are over whose followers are still to be told: id, state, followers. A list and no
        #: recursion, for users make chains as long as they like.
        self.over: deque[tuple[str, str, deque[Job]]] = deque()
        #: Ends of tasks whose results others have for inputs, to be told to these: result, status, body.
        self.ended_inputs: deque[tuple[Source, Status, Payload]] = deque()
        #: Ids of durable jobs that had results in this drain: these are not in the store yet.
        self.unwritten: set[str] = set()
        #: Sessions that read stored results: (session, job id) → position reached.
        self.readers: dict[tuple[Session, str], int] = {}
        #: The same, of sessions that have paused their results.
        self.paused_readers: dict[tuple[Session, str], int] = {}
        #: Bytes of durable payloads in memory.
        self.resident = 0
        self.history: deque[dict[str, Any]] = deque(maxlen=limits.history)
        #: What was, for people.
        self.histories = Histories()
        self.fleet = Fleet(limits)
        #: Tells where the dashboard is, and makes a token for an identity; `None` if there is none.
        self.dashboard: Callable[[Identity], dict[str, str]] | None = None
        #: The coordinator beside the scheduler, for queries about programs.
        self.coordination: Coordination | None = None
        self.functions = Functions()
        self.ready = ReadyQueue()
        self.counters: Counter[str] = Counter()
        #: What has broken for one job, which ends behind the event.
        self.breakdowns = Breakdowns(self.counters, self.say)
        self.timers = Timers(self.breakdowns.of)
        self.event_kinds: set[str] = set()
        #: Jobs that were over a moment ago, by id: when a new one of that id may start, as
        #: `Timers.listened` counts.
        self.reserved_ids: OrderedDict[str, float] = OrderedDict()
        self.events: deque[dict[str, Any]] = deque(maxlen=limits.history)
        #: Reports of the latest load tests of this cluster, for the dashboard: when, whose, and a text.
        self.load_tests: deque[tuple[float, str, str]] = deque(maxlen=LOAD_TESTS)
        #: Sessions with results to send, in the order of their first.
        self.reporting: dict[Session, None] = {}
        #: Tasks of attached jobs that were given another run; see `standings`.
        self.tried_tasks: dict[Session, dict[tuple[Job, int], None]] = {}
        #: Jobs whose running tasks may have become slow; see `stragglers`.
        self.overdue: dict[Job, None] = {}
        #: Tasks in state QUEUED, in all jobs.
        self.queued = 0
        self.effects: list[Effect] = []
        self._job_lines = JobLines(self.say)

    def stalled(self, seconds: float) -> None:
        """Have the time in which the broker could not hear count against no peer."""
        self.started += seconds
        self.timers.stalled(seconds)

    # Effects

    def send(self, peer: bytes | None, message: Message) -> None:
        """Send, unless the peer has no link."""
        if peer is not None:
            self.effects.append(Send(peer, message))

    def recall(self, node: Node, count: int) -> None:
        """Ask a node for up to `count` tasks that no slot of it has started."""
        node.recalling = True
        self.counters["recalls"] += 1
        self.send(node.peer, Recall(count))

    def forget(self, peer: bytes | None) -> None:
        """Have the loop drop what waits for a link."""
        if peer is not None:
            self.effects.append(Forget(peer))

    def say(self, level: int, text: str, *, job: str = "", node: str = "") -> None:
        """Tell the operator; `job` and `node`: the id and the name that it is about."""
        self.effects.append(Say(level, text, job, node))

    def record(self, record: Record) -> None:
        """Have this in the journal before anything of this drain is sent."""
        self.effects.append(Persist(record))

    # Lookups

    def owner(self, job_id: str) -> str | None:
        """Return on whose account a job runs or ran, as far as more than a line of it is here."""
        job = self.jobs.get(job_id)
        if job is not None:
            return job.session.account
        finished = self.finished_jobs.get(job_id)
        return None if finished is None else str(finished.get("account", finished["session"]))

    def is_of_another(self, session: Session, job_id: str) -> bool:
        """Return whether a job is there and this session may not have what is in it."""
        owner = self.owner(job_id)
        return not session.who.commands and owner is not None and owner != session.account

    def summary(self, job: Job) -> dict[str, Any]:
        """Return a job in plain values, for people."""
        owner = self.ledgers.called(job.session.account)
        return describe_job(job, self.functions.name(job.function), owner, self.epoch)

    # Sessions

    def open(self, job: Job, cost: int) -> None:
        """Add a new job, whose options take `cost` bytes."""
        self.jobs[job.id] = job.session.jobs[job.id] = job
        job.sources = job.session.sources.get(job.id)
        self.histories.forget(job.id)
        self.histories.touch(job)
        job.cost = cost
        ledger = job.session.ledger
        ledger.add_job(job.kind)
        ledger.function_bytes += cost

    def job_began(self, job: Job) -> None:
        """Tell the operator of a new job."""
        # Without a key of its own a client has no name.
        owner = self.ledgers.called(job.session.account)
        of = f" of {owner}" if owner else ""
        text = f"job {job.id}{of} begins: {self.functions.name(job.function)}"
        self._job_lines.tell(job.id, text, self.now)

    def job_over(self, summary: dict[str, Any]) -> None:
        """Tell the operator how a job has ended."""
        failed = f", {summary['failed']:,} failed" if summary["failed"] else ""
        tasks = amount(summary["tasks"], "task")
        text = f"job {summary['id']} is over: {summary['state']}, {tasks}{failed}"
        self._job_lines.tell(summary["id"], text, self.now)

    def acknowledged(self, session: Session, seq: int) -> None:
        """Let go of results that a client has taken, up to `seq`."""
        session.acknowledge(seq)
        self.unpark(session)
        self.relieved(session.ledger)

    def relieved(self, ledger: Ledger) -> None:
        """Let sessions go on that were passed over for what others of their key left untaken."""
        if ledger.parked and not ledger.full:
            for session in list(ledger.parked):
                self.unpark(session)
        self.ledgers.tidy(ledger)

    def unpark(self, session: Session) -> None:
        """Let a session run again if it was passed over and no longer needs to be."""
        if session.parked and session.may_run:
            self.ready.unpark(session)

    def tell(self, session: Session, group: ResultGroup) -> None:
        """Send results to a session, with the next message to it."""
        session.fresh.append(group)
        self.reporting[session] = None

    # Notes

    def tried(self, job: Job, index: int, attempt: int) -> None:
        """Record a task's counts of further runs and of processes that it ended."""
        if job.options.durable:
            story = tuple(job.blames.get(index, ()))
            self.record(TaskTried(job.id, index, job.tries.get(index, 0), story))
        else:
            job.counted[index] = attempt
            self.tried_tasks.setdefault(job.session, {})[job, index] = None

    def look_at(self, job: Job, when: float) -> None:
        """See at that time whether running tasks of a job have become slow."""
        self.timers.at(when, lambda _now: self.overdue.setdefault(job), job)

    def note(
        self, node: Node, kind: str, text: str, details: dict[str, Any], *, private: bool
    ) -> None:
        """Tell people of something; `private`: it may repeat what tasks have printed."""
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
        self.say(logging.WARNING, f"node {node.name}: {text[:EVENT_CHARS]}", node=node.name)
