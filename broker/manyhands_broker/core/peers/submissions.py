"""What clients submit: jobs, their tasks and functions; what is taken, what is turned down and why."""

from __future__ import annotations

from collections.abc import Sized

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.quotas import JOB_BYTES
from manyhands_broker.core.model.requirements import kind_of
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.peers.cancellation import Cancellation
from manyhands_broker.core.peers.durable import Durable
from manyhands_broker.core.peers.orphans import Orphans
from manyhands_broker.core.peers.relays.value_relay import ValueRelay
from manyhands_broker.core.peers.results import Outcomes
from manyhands_broker.core.peers.standings import Standings
from manyhands_broker.core.peers.task_inputs import Needs, by_job
from manyhands_broker.core.state.delayed_acks import DelayedAcks
from manyhands_broker.core.state.function_registry import is_true, size_of
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.errors import ProtocolError
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.failure import SUBMIT_REJECTED, Failure
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.messages import (
    Cancel,
    Function,
    InputGroup,
    Need,
    Rejected,
    Status,
    SubmitGroup,
)

#: What a name or number in a job's options takes, in bytes, beside its length.
_ENTRY_BYTES = 64


class Submissions:
    """Takes what clients submit, within the budgets of their keys (`quotas`)."""

    def __init__(
        self,
        transitions: Transitions,
        durable: Durable,
        orphans: Orphans,
        delayed_acks: DelayedAcks,
        outcomes: Outcomes,
        value_relay: ValueRelay,
        standings: Standings,
        cancellation: Cancellation,
    ) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self._durable = durable
        self._orphans = orphans
        self._delayed_acks = delayed_acks
        self._outcomes = outcomes
        self._value_relay = value_relay
        self._standings = standings
        self._cancellation = cancellation
        self._task_inputs = outcomes.task_inputs

    def take(self, session: Session, groups: list[SubmitGroup], now: float) -> None:
        """Take the tasks that a client submits, or the same ones again."""
        state = self._state
        count = sum(len(group.bodies) for group in groups)
        inputs, session.inputs = session.inputs, []
        needs, session.dependencies = by_job(session.dependencies), []
        counts: dict[str, int] = {}
        durable = False
        for group in groups:
            if group.job in session.retired:
                counts[group.job] = session.retired[group.job]
                continue
            if group.job in state.finished_jobs:
                counts[group.job] = state.finished_jobs[group.job]["tasks"]
                self._too_late(session, group, counts[group.job])
                durable = True
                continue
            try:
                job = self._job_of(session, group, now)
                if group.job in needs:
                    self._task_inputs.refuse(job, needs[group.job])
                bodies, size = self._new(session, job, group)
            except ProtocolError as error:
                self._reject(session, group, str(error))
                known = state.jobs.get(group.job)
                if known is not None and known.options.durable:
                    # What there is of it is confirmed all the same, as in answer to every submission.
                    counts[known.id] = known.total
                    durable = True
                continue
            if job.closed:
                self._too_late(session, group, job.total)
            self._append(job, group, bodies, size, needs.get(group.job, {}))
            counts[job.id] = job.total
            durable = durable or job.options.durable
        if inputs:
            self._refer(session, inputs, count)
        self._delayed_acks.accept(session, counts, count, now=durable)

    def add(self, owner: Session, group: SubmitGroup) -> Job:
        """Take tasks that no client brings into a durable job of `owner`; return that.

        Raises:
            ProtocolError: they cannot be taken; the text says why.
        """
        job = self._job_of(owner, group, self._state.now)
        bodies, size = self._new(owner, job, group)
        self._append(job, group, bodies, size, {})
        return job

    def _refer(self, session: Session, inputs: list[InputGroup], most: int) -> None:
        """Note which stored values the tasks of a submission, at most `most`, refer to."""
        for group in inputs:
            most -= group.count
            job = session.jobs.get(group.job)
            if most >= 0 and job is not None:
                items = self._value_relay.referred(session, group)
                job.refer(group.first, group.count, items)
                for item in items:
                    # Where all of these tasks have ended.
                    item.settle()

    def _reject(self, session: Session, group: SubmitGroup, reason: str) -> None:
        """Turn a group down. Where there is no job, all of it is: it need not be closed then."""
        first, known = 0, self._state.jobs.get(group.job)
        if known is not None:
            first = group.first
            mine = known.session is session
            if mine or (known.options.durable and not self._state.is_of_another(session, known.id)):
                # What is here already stays.
                first = max(first, known.total)
            if mine:
                # What comes after it, perhaps on its way already, is not taken either.
                known.close()
                if known.finished:
                    self._transitions.retire(known)
        self._state.counters["rejected_submissions"] += 1
        self._state.send(session.peer, Rejected(group.job, first, reason))

    def _too_late(self, session: Session, group: SubmitGroup, known: int) -> None:
        """Say which tasks of a group come after their job was closed. Copies of others are fine."""
        if group.first + len(group.bodies) > known:
            reason = f"job {group.job} is over or was cancelled: it takes no more tasks"
            self._state.counters["rejected_submissions"] += 1
            self._state.send(session.peer, Rejected(group.job, max(group.first, known), reason))

    def _new(self, session: Session, job: Job, group: SubmitGroup) -> tuple[list[Payload], int]:
        """Return what of a group is new, and its bytes; raise `ProtocolError` beyond a budget."""
        if job.closed or not group.bodies:
            return [], 0
        skipped = max(job.total - group.first, 0)
        bodies = group.bodies[skipped:] if skipped else group.bodies
        size = total(bodies)
        budget, refusal = job.session.ledger.refuse_tasks(
            session, len(bodies), size, durable=job.options.durable
        )
        self._check(budget, refusal)
        return bodies, size

    def _check(self, budget: str, refusal: str) -> None:
        if refusal:
            self._state.counters[f"refused_{budget}"] += 1
            raise ProtocolError(refusal)

    def _append(
        self, job: Job, group: SubmitGroup, bodies: list[Payload], size: int, needs: Needs
    ) -> None:
        """Take what is new in a group; a copy of what came before changes nothing."""
        state, session = self._state, job.session
        if not job.closed:
            if group.first > job.total:
                job.skip_to(group.first)
            first = job.total
            behind = [index for index in sorted(needs) if first <= index < first + len(bodies)]
            job.append(bodies, behind)
            state.histories.queued(job, first, state.now)
            if job.counted:
                job.begin_behind(first)
            session.took(len(bodies), size)
            state.queued += len(bodies)
            state.counters["tasks_submitted"] += len(bodies)
            self._task_inputs.follow(job, behind, needs)
            if group.closed:
                job.close()
            if job.options.durable:
                state.resident += size
                self._durable.taken(job, first, bodies, closed=group.closed)
            self._adopt(job)
            if job.terminating:
                for piece in job.every_piece(TaskState.QUEUED):
                    self._transitions.cancel(piece, None)
        if job.finished:
            self._transitions.retire(job)
        else:
            state.ready.add(job)

    def _job_of(self, session: Session, group: SubmitGroup, now: float) -> Job:
        state = self._state
        known = state.jobs.get(group.job)
        if known is not None:
            if known.options.durable and self._state.is_of_another(session, known.id):
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
            if self._state.is_of_another(session, parent):
                raise ProtocolError(f"job {parent}, which this one comes after, is of another key")
        account, digests = session, options.digests(group.function)
        if options.durable:
            self._durable.refuse(group, options)
            for digest in digests:
                self._durable.recall(digest, session.account)
            account = self._durable.owner(session.account)
        cost = JOB_BYTES + _weight(group.options)
        kind = kind_of(frozenset(options.needs), tuple(sorted(options.resources.items())))
        uses = state.functions.costs(digests, account.ledger)
        self._check(*account.ledger.refuse_job(kind, cost + uses))
        self._check(
            *account.ledger.refuse_tasks(
                session, len(group.bodies), total(group.bodies), durable=options.durable
            )
        )
        job = Job(group.job, account, group.function, options, now)
        state.open(job, cost)
        state.job_began(job)
        state.counters["jobs_submitted"] += 1
        job.waiting = not state.functions.use(job, trusted=session.who.commands)
        for digest in state.functions.missing(job):
            state.send(session.peer, Need(digest))
        if options.durable:
            self._durable.opened(job, session.account, group.first)
            self._durable.dependencies.follow(job)
        self._standings.apply(session, job, now)
        hold_until = max(session.hold_until, state.reserved_ids.get(job.id, 0.0))
        left = hold_until - state.timers.listened(now)
        if left > 0:
            job.on_hold = True
            state.timers.await_peer(now + left, lambda _now: self._resume(job), job)
        self.limit(job)
        return job

    def limit(self, job: Job) -> None:
        """See to the deadline of a new job, or of one that comes from before the broker's start."""
        if job.options.deadline:
            when = job.submitted + job.options.deadline
            self._state.timers.at(when, lambda _now: self._overdue(job), job)

    def _resume(self, job: Job) -> None:
        job.on_hold = False
        self._state.ready.add(job)

    def _adopt(self, job: Job) -> None:
        """Take over what nodes run of a job that comes from before the broker's start."""
        adopted, results, unwanted = self._orphans.claim(job)
        if adopted:
            self._transitions.adopt(job, adopted)
        for node, span in unwanted:
            self._state.send(node.peer, Cancel([span]))
        for node, group in results:
            self._outcomes.results(node, group)

    def _overdue(self, job: Job) -> None:
        """End a job whose deadline has come."""
        if not job.finished:
            seconds = job.options.deadline
            failure = Failure(
                "manyhands.TaskTimeout", f"the job's deadline of {seconds:g} s has passed"
            )
            job.ending = Status.TIMED_OUT, failure.encode()
            job.terminating = True
            self._cancellation.remaining(job)

    def function(self, session: Session, message: Function) -> None:
        """Take a function that a client sends; its jobs that have waited for it go on."""
        state = self._state
        # Without just one body it is none, and nodes would wait for another one for ever.
        sound = len(message.bodies) == 1
        if not (sound and (session.who.commands or is_true(message))):
            state.counters["refused_functions"] += 1
            return
        ledger, digest = session.ledger, message.digest
        refusal = ledger.refuse_function(state.functions.cost_of(message, ledger))
        if refusal or size_of(message) > state.limits.function_bytes:
            state.counters["refused_functions"] += 1
            for job in state.functions.give_up(digest, ledger):
                self._turn_down(job, refusal)
            return
        jobs = state.functions.add(message, session.account)
        self._durable.arrived(jobs, message)
        for job in jobs:
            if not state.functions.missing(job):
                job.waiting = False
                state.ready.add(job)

    def _turn_down(self, job: Job, reason: str) -> None:
        """End a job whose function cannot be taken."""
        state = self._state
        state.counters["rejected_submissions"] += 1
        job.ending = Status.RAISED, Failure(SUBMIT_REJECTED, reason).encode()
        job.terminating = True
        if not job.options.durable:
            state.send(job.session.peer, Rejected(job.id, 0, reason))
            job.close()
        self._cancellation.whole(job)


def _weight(value: object) -> int:
    """Return the bytes, about, that a job's options take."""
    if isinstance(value, dict):
        return sum(_ENTRY_BYTES + _weight(key) + _weight(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_ENTRY_BYTES + _weight(item) for item in value)
    return len(value) if isinstance(value, Sized) else 0
