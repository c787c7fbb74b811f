"""Every invariant of the scheduler, checked the slow way. For tests and the simulator.

It reads everything, so its cost grows with all that the scheduler has. But it reads column by column, at
the speed of slices and sets: the simulator calls it after each of millions of events.
"""

from __future__ import annotations

from collections import Counter

from manyhands_broker.core.model.chunk import CHUNK, Chunk
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.quotas import Ledger
from manyhands_broker.core.model.requirements import Kind
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.model.task_input import Source, Standing
from manyhands_broker.core.model.task_state import TERMINAL, TaskState
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.payloads.payload import nbytes, total

_QUEUED, _ASSIGNED = int(TaskState.QUEUED), int(TaskState.ASSIGNED)
#: What a ledger counts, and `validate` counts anew.
_FIGURES = (
    "answer_bytes",
    "bytes",
    "function_bytes",
    "jobs",
    "nodes",
    "printed_bytes",
    "sessions",
    "stored",
    "tasks",
    "unacked",
)
#: TaskState → 1 where it is what the name says, else 0: for `bytes.translate`.
_IS_ASSIGNED = bytes(state == TaskState.ASSIGNED for state in range(256))
_IS_TERMINAL = bytes(state in TERMINAL for state in range(256))
_IS_QUEUED = bytes(state == TaskState.QUEUED for state in range(256))


def validate(state: SchedulerState) -> None:
    """Raise `AssertionError` naming the first thing that does not add up."""
    owned: dict[Node | None, int] = Counter()
    assigned: dict[Session, int] = {}
    unfinished: dict[Session, int] = {}
    queued = 0
    users: Counter[Source] = Counter()
    for job in state.jobs.values():
        _job(job, owned)
        waits, runs, session = job.queued, job.assigned, job.session
        queued += waits
        copies = _twins(job, owned)
        assigned[session] = assigned.get(session, 0) + runs + copies
        unfinished[session] = unfinished.get(session, 0) + waits + runs
        if job.finished:
            raise AssertionError(f"job {job.id} is over and still listed")
        _inputs(job)
        _results(job, users)
        if not job.listed and job.runnable:
            raise AssertionError(f"job {job.id} waits and is not in line")
    if state.queued != queued:
        raise AssertionError(f"{state.queued} queued by count, {queued} by jobs")
    owned.pop(None, None)
    held = Counter(chunk.job.session for node in state.fleet for chunk, _ in node.held_results)
    for node in state.fleet:
        _node(state, node, owned.pop(node, 0))
    if owned:
        raise AssertionError("a task is on a node that is gone")
    for sessions in (state.sessions, state.owners):
        for session in sessions.values():
            if session.held_results != held[session]:
                raise AssertionError(
                    f"session {session.name}: {session.held_results} held, {held[session]}"
                )
            _session(session, assigned.get(session, 0), unfinished.get(session, 0))
    # What a session has left that is over still needs its inputs.
    settling = {source for source, _, _ in state.ended_inputs}
    for session in dict.fromkeys([*state.sessions.values(), *unfinished]):
        _sources(session, users, settling)
    if users:
        raise AssertionError("a task needs a result that no session has")
    _ledgers(state)


def _ledgers(state: SchedulerState) -> None:
    """Check what is counted of each key."""
    counted: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[Kind]] = {}

    def count(ledger: Ledger, **figures: int) -> None:
        counted.setdefault(ledger.key, Counter()).update(figures)

    for session in state.sessions.values():
        unread = {"answer_bytes": session.answers.nbytes, "printed_bytes": session.printed.nbytes}
        count(session.ledger, sessions=1, unacked=session.unacked_bytes, **unread)
    jobs = state.jobs.values()
    for session in dict.fromkeys([*state.sessions.values(), *(job.session for job in jobs)]):
        count(session.ledger, bytes=_kept_bytes(session))
    for node in state.fleet:
        count(node.ledger, nodes=1)
    for job in state.jobs.values():
        ledger, tasks = job.session.ledger, job.queued + job.assigned
        count(ledger, jobs=1, function_bytes=job.cost, bytes=_payload_bytes(job))
        count(ledger, **{"stored" if job.options.durable else "tasks": tasks})
        kinds.setdefault(ledger.key, Counter())[job.kind] += 1
    ledgers = {ledger.key: ledger for ledger in state.ledgers}
    for key, figures in counted.items():
        if key not in ledgers:
            raise AssertionError(f"key {key}: it has something here and no ledger")
        figures["function_bytes"] += state.functions.bytes_of(ledgers[key])
    for key, ledger in ledgers.items():
        figures = counted.get(key, Counter())
        for name in _FIGURES:
            if getattr(ledger, name) != figures[name]:
                is_ = getattr(ledger, name)
                raise AssertionError(f"key {key}: {name} is {is_}, not {figures[name]}")
        if ledger.kinds != kinds.get(key, Counter()):
            raise AssertionError(f"key {key}: kinds of jobs do not add up")


def _payload_bytes(job: Job) -> int:
    return sum(
        total([body for body in chunk.payloads if body is not None])
        for chunk in job.chunks.values()
    )


def _node(state: SchedulerState, node: Node, owned: int) -> None:
    name = f"node {node.name}"
    count = node.active + len(node.held_results) - len(node.stopping)
    if owned != count:
        raise AssertionError(f"{name} has {owned}, counts {count}")
    if sum(node.assigned.values()) != owned:
        raise AssertionError(f"{name}: assigned tasks do not add up")
    load = sum(count * each for count, each in node.loads.values())
    if abs(load - node.load) >= 1e-6 + 1e-9 * load:
        raise AssertionError(f"{name}: load is {node.load}, not {load}")
    _resources(node)
    if state.fleet.by_row.get(node.row) is not node:
        raise AssertionError(f"{name} has lost its row")


def _resources(node: Node) -> None:
    """Check what of a node is free."""
    free = Counter(node.resources)
    working = Counter({chunk.job: 0 for chunk in node.assigned})
    for chunk, count in node.assigned.items():
        working[chunk.job] += count
    working.subtract(chunk.job for chunk, _ in node.held_results)
    working.subtract(job for job, _ in node.lent)
    taken = [(job.resources, count) for job, count in working.items()]
    for resources, count in taken + [(stopping, 1) for stopping in node.stopping.values()]:
        for name, need in resources:
            free[name] -= need * count  # type: ignore[assignment]
    for name in free.keys() | node.free.keys():
        if abs(free[name] - node.free.get(name, 0.0)) > 1e-6 * max(
            1.0, node.resources.get(name, 0)
        ):
            raise AssertionError(f"node {node.name}: {name} is miscounted")
    for job, index in node.lent:
        if not any(
            chunk.holders[offset] is node or (job, index) in node.twins
            for chunk, offset, _ in job.pieces([index])
        ):
            raise AssertionError(f"node {node.name}: what a task takes is lent that is not here")


def _twins(job: Job, owned: dict[Node | None, int]) -> int:
    """Check and count the second attempts of tasks that run twice."""
    if job.speculation is None:
        return 0
    name, count = f"job {job.id}", 0
    for index, twin in job.speculation.twins.items():
        [(chunk, offset, _)] = job.pieces([index])
        holder = chunk.holders[offset]
        if holder is None or holder is twin.node or chunk.attempts[offset] == twin.attempt:
            raise AssertionError(f"{name}: task {index} has a twin and no attempt beside it")
        if twin.node is not None:
            if (job, index) not in twin.node.twins:
                raise AssertionError(f"{name}: the twin of task {index} is not with its node")
            if index in job.cancelling or (chunk, offset) in holder.held_results:
                raise AssertionError(f"{name}: task {index} is about to end and runs twice")
            owned[twin.node] += 1
            count += 1
    if any(_state(job, index) != TaskState.ASSIGNED for index in job.speculation.since):
        raise AssertionError(f"{name}: a task that does not run is looked at for being slow")
    if job.speculation.since and not job.speculation.look_due:
        raise AssertionError(f"{name}: no look at its slow tasks is due")
    return count


def _state(job: Job, index: int) -> int | None:
    return next((chunk.states[offset] for chunk, offset, _ in job.pieces([index])), None)


def _session(session: Session, assigned: int, unfinished: int) -> None:
    name = f"session {session.name}"
    if session.assigned != assigned:
        raise AssertionError(f"{name}: {session.assigned} assigned, {assigned}")
    if session.unfinished != unfinished:
        raise AssertionError(f"{name}: unfinished tasks do not add up")
    if session.unacked_bytes != sum(part[2] for part in session.unacked):
        raise AssertionError(f"{name}: unacknowledged bytes do not add up")


def _job(job: Job, owned: dict[Node | None, int]) -> None:
    name = f"job {job.id}"
    lines = sorted(job.ready)
    end = 0
    for lo, hi in lines:
        if lo < end:
            raise AssertionError(f"{name}: tasks are in line twice")
        end = hi
    queued = assigned = 0
    for base, chunk in job.chunks.items():
        if base != chunk.base or base % CHUNK:
            raise AssertionError(f"{name}: a chunk is misplaced")
        _columns(name, chunk, owned)
        waits = chunk.states.count(_QUEUED)
        queued += waits
        assigned += chunk.states.count(_ASSIGNED)
        if waits:
            _line(name, job, chunk, lines)
    if queued != job.queued or assigned != job.assigned:
        raise AssertionError(f"{name}: queued or assigned tasks do not add up")
    if sum(job.counts) != job.total:
        raise AssertionError(f"{name}: its tasks do not add up")


def _inputs(job: Job) -> None:
    """Check what is counted of stored values that unfinished tasks refer to."""
    referring = 0
    for chunk in job.chunks.values():
        referring += len(chunk.inputs)
        for offset, items in chunk.inputs.items():
            if chunk.payloads[offset] is None:
                raise AssertionError(f"job {job.id}: a finished task still refers to values")
            if not all(item.tasks > 0 for item in items):
                raise AssertionError(f"job {job.id}: a value that no task refers to, and one does")
    if referring != job.referring:
        raise AssertionError(f"job {job.id}: {job.referring} tasks refer to values, {referring}")


def _results(job: Job, users: Counter[Source]) -> None:
    """Check and count what tasks have for inputs."""
    behind = 0
    for chunk in job.chunks.values():
        for offset, inputs in chunk.results.items():
            users.update(inputs.sources)
            waits_for, place = inputs.waits_for, (job, chunk.base + offset)
            if chunk.payloads[offset] is None:
                raise AssertionError(f"job {job.id}: a finished task still has inputs")
            if waits_for is None:
                continue
            behind += 1
            if chunk.states[offset] != TaskState.QUEUED or place not in waits_for.followers:
                raise AssertionError(f"job {job.id}: a task waits for an input, and it does not")
    if behind != job.behind:
        raise AssertionError(f"job {job.id}: {job.behind} tasks wait for inputs, {behind}")


def _sources(session: Session, users: Counter[Source], settling: set[Source]) -> None:
    """Check the results that tasks of a session have for inputs."""
    for job_id, shelf in session.sources.items():
        job = session.jobs.get(job_id)
        if job is not None and job.sources is not shelf:
            raise AssertionError(f"job {job_id} does not know that others need its results")
        for index, source in shelf.items():
            if not source.users or source.users != users.pop(source, 0):
                raise AssertionError(f"task {index} of job {job_id}: who needs it does not add up")
            if any(
                job.chunks[i - i % CHUNK].results[i % CHUNK].waits_for is not source
                for job, i in source.followers
            ):
                raise AssertionError(f"task {index} of job {job_id}: a follower that does not wait")
            if source in settling:
                continue
            if source.standing is Standing.HELD:
                held = source.node is not None and source.node.held_results
                if not held or source.body not in held.values():
                    raise AssertionError(f"task {index} of job {job_id} is not held by its node")
            elif source.item is not None:
                raise AssertionError(f"task {index} of job {job_id}: a value, and no node holds it")


def _kept_bytes(session: Session) -> int:
    sources = (source for shelf in session.sources.values() for source in shelf.values())
    return sum(nbytes(source.body) for source in sources if source.standing is Standing.HERE)


def _columns(name: str, chunk: Chunk, owned: dict[Node | None, int]) -> None:
    states, holders, payloads = bytes(chunk.states), chunk.holders, chunk.payloads
    size = len(states)
    if not size == len(chunk.attempts) == len(holders) == len(payloads):
        raise AssertionError(f"{name}: columns of unequal length")
    on = states.translate(_IS_ASSIGNED)
    if bytes([holder is not None for holder in holders]) != on:
        raise AssertionError(
            f"{name}: a task has a node and is not assigned, or the other way round"
        )
    over = states.translate(_IS_TERMINAL)
    if bytes([payload is None for payload in payloads]) != over:
        raise AssertionError(f"{name}: an unfinished task without payload, or a finished one with")
    if size - sum(over) != chunk.left:
        raise AssertionError(f"{name}: {chunk.left} unfinished in a chunk by count, not in fact")
    if any(on):
        for holder in holders:
            owned[holder] += 1
        if not all(attempt or not there for attempt, there in zip(chunk.attempts, on, strict=True)):
            raise AssertionError(f"{name}: a task is assigned in no attempt")


def _line(name: str, job: Job, chunk: Chunk, lines: list[tuple[int, int]]) -> None:
    """Check that every queued task is in line, or has a reason not to be."""
    waits = bytearray(bytes(chunk.states).translate(_IS_QUEUED))
    base, size = chunk.base, len(waits)
    for lo, hi in lines:
        first, last = max(lo - base, 0), min(hi - base, size)
        if first < last:
            waits[first:last] = bytes(last - first)
    offset = waits.find(1)
    while offset >= 0:
        inputs = chunk.results.get(offset)
        is_behind = inputs is not None and inputs.waits_for is not None
        if (
            not is_behind
            and base + offset not in job.delayed
            and base + offset not in job.uncertain
        ):
            raise AssertionError(f"{name}: a task is queued and not in line")
        offset = waits.find(1, offset + 1)
