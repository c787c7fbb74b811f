"""Speculative execution: every move of tasks that run twice.

A task that takes far longer than its like may be given, once, to a second node (`stragglers` says when).
It has two *live attempts* then, with different numbers and on different nodes. One of them stands in the
columns of its chunk, as that of every task; the other is its *twin* (`model.attempts`). Which is which
means nothing. Whatever a node says of a twin, the two change places first. So all else in the scheduler
knows one attempt of each task: the one that a message is about.

- The first answer wins: the task ends, or its node holds its result, and the twin is *stopped*. Its slot
  counts as taken until its node says that it is free. The broker ignores what the node says of the
  attempt.
- An attempt that fails, or is lost, is none of the task's business as long as the other one runs.
- When neither is left, the task goes on from the higher of both numbers. So the number of a twin that
  is gone stays until then, and no number is ever given out twice.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from manyhands_broker.core.model.attempts import Speculation, Twin
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.records import AttemptsStale
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import Cancel, Span


def runs_twice(job: Job, index: int) -> bool:
    """Return whether a task has a twin that lives."""
    if job.speculation is None:
        return False
    twin = job.speculation.twins.get(index)
    return twin is not None and twin.node is not None


def give(state: SchedulerState, piece: Piece, node: Node, each: float) -> int:
    """Give the one task of `piece` to a second node as well; return the attempt number."""
    job, index = piece.chunk.job, piece.indices.start
    speculation = _of(job)
    attempt = piece.chunk.attempts[piece.lo] + 1
    speculation.twins[index] = Twin(node, attempt)
    speculation.given += 1
    node.twins.add((job, index))
    node.gain(piece, each)
    job.session.assigned += 1
    job.session.charge(each)
    state.counters["tasks_speculated"] += 1
    state.fleet.update(node)
    return attempt


def put_first(node: Node, job: Job, indices: Iterable[int]) -> None:
    """Have those of a job's attempts stand in the columns which this node runs as twins."""
    for index in indices:
        if (job, index) in node.twins:
            _swap(job, index)


def put_all_first(node: Node) -> None:
    """Have all that a node runs stand in the columns."""
    for job, index in list(node.twins):
        _swap(job, index)


def drop(state: SchedulerState, piece: Piece, node: Node, *, started: bool) -> None:
    """End the attempt in the columns, which was `node`'s, without an answer; its twin goes on."""
    job, index = piece.chunk.job, piece.indices.start
    _swap(job, index)
    lost = _of(job).twins[index]
    _leave(state, piece, lost, node)
    if job.options.durable and started and lost.attempt < piece.chunk.attempts[piece.lo]:
        state.record(AttemptsStale(job.id, [index], lost.attempt + 1))


def end(state: SchedulerState, piece: Piece, *, done: bool) -> None:
    """Stop the twins of tasks that have ended; `done`: with a value."""
    twins = _of(piece.chunk.job).twins
    for offset, index in enumerate(piece.indices, piece.lo):
        if done and index in twins and twins[index].attempt < piece.chunk.attempts[offset]:
            state.counters["speculations_won"] += 1
    stop(state, piece)


def stop(state: SchedulerState, piece: Piece) -> None:
    """Stop the twins of tasks that have an answer, or that are not wanted any more."""
    job = piece.chunk.job
    for offset, index in enumerate(piece.indices, piece.lo):
        twin = _of(job).twins.get(index)
        if twin is None or twin.node is None:
            continue
        node = twin.node
        _leave(state, piece._replace(lo=offset, hi=offset + 1), twin, node)
        node.stop((job.id, twin.attempt, index), job.resources)
        # A node without a link is not told to keep the attempt once it is back.
        if node.linked:
            state.send(node.peer, Cancel([Span(job.id, twin.attempt, [index])]))
        state.fleet.update(node)


def is_stopping(state: SchedulerState, job: Job) -> bool:
    """Return whether some node has yet to say that an attempt of a job is over."""
    return _of(job).given > 0 and any(
        attempt[0] == job.id for node in state.fleet for attempt in node.stopping
    )


def _leave(state: SchedulerState, piece: Piece, twin: Twin, node: Node) -> None:
    job = piece.chunk.job
    twin.node = None
    node.twins.discard((job, piece.indices.start))
    node.lose(piece)
    job.session.assigned -= 1
    state.unpark(job.session)


def _swap(job: Job, index: int) -> None:
    """Have a task's attempt in the columns and its twin change places."""
    twin = _of(job).twins[index]
    [(chunk, offset, _)] = job.pieces([index])
    node, attempt = chunk.holders[offset], chunk.attempts[offset]
    if twin.node is None or node is None:
        raise AssertionError(f"job {job.id}: task {index} does not run twice")
    chunk.holders[offset] = twin.node
    chunk.attempts[offset : offset + 1] = array("I", [twin.attempt])
    twin.node.twins.discard((job, index))
    node.twins.add((job, index))
    twin.node, twin.attempt = node, attempt


def _of(job: Job) -> Speculation:
    if job.speculation is None:
        raise AssertionError(f"job {job.id} has no tasks that run twice")
    return job.speculation
