"""Speculative execution: what a job's books hold of tasks that run twice, and every move of those.

A task that takes far longer than its like may be given, once, to a second node (`stragglers` says when).
It has two *live attempts* then, with different numbers and on different nodes. One of them stands in the
columns of its chunk, as that of every task; the other is its *twin*, kept here. Which is which means
nothing: whatever a node says of a twin, the two change places first, so that all else in the scheduler
knows of one attempt for each task, the one that is spoken of.

- The first answer wins: the task ends, or its result is held, and the twin is *stopped*. Its slot counts
  as taken until its node says that it is free, and what the node says of the attempt is not looked at.
- An attempt that fails, or is lost, is none of the task's business as long as the other one runs.
- When neither is left, the task goes on from the higher of both numbers. So the number of a twin that
  is gone stays in the books until then, and no number is ever given out twice.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from manyhands_broker.core.records import AttemptsStale
from manyhands_shared.protocol.messages import Cancel, Span

if TYPE_CHECKING:
    from manyhands_broker.core.model.job import Job, Piece
    from manyhands_broker.core.model.node import Node
    from manyhands_broker.core.transitions import Book

#: Finished tasks, or batches of them, by whose durations a job's running ones are judged.
_MEASURED = 99


class Twin:
    """The other attempt of a task. Without a node it is over."""

    __slots__ = ("attempt", "node")

    def __init__(self, node: Node | None, attempt: int) -> None:
        self.node = node
        self.attempt = attempt


class Speculation:
    """What a job that asks for speculative execution keeps besides its columns."""

    __slots__ = ("given", "seconds", "since", "twins", "watched")

    def __init__(self) -> None:
        #: Running tasks that may yet be run twice, and since when they run; the oldest first.
        self.since: dict[int, float] = {}
        #: What tasks took of late, in seconds each.
        self.seconds: deque[float] = deque(maxlen=_MEASURED)
        self.twins: dict[int, Twin] = {}
        #: Copies given out so far.
        self.given = 0
        #: Whether somebody is going to look at what has become slow.
        self.watched = False

    @property
    def copies(self) -> int:
        """Tasks that run twice at the moment."""
        return sum(twin.node is not None for twin in self.twins.values())

    @property
    def median(self) -> float | None:
        """What a task takes, in seconds; `None` before the first has ended."""
        return sorted(self.seconds)[len(self.seconds) // 2] if self.seconds else None

    def forget(self, indices: Iterable[int]) -> None:
        """These tasks have ended."""
        if self.twins:
            for index in indices:
                self.twins.pop(index, None)

    def renumber(self, piece: Piece) -> None:
        """These tasks go back to the queue: their next attempts are above all that there were."""
        for offset, index in enumerate(piece.indices, piece.lo):
            twin = self.twins.pop(index, None)
            if twin is not None:
                attempts = piece.chunk.attempts
                attempts[offset] = max(attempts[offset], twin.attempt)


def runs_twice(job: Job, index: int) -> bool:
    """Whether a task has a twin that lives."""
    if job.speculation is None:
        return False
    twin = job.speculation.twins.get(index)
    return twin is not None and twin.node is not None


def give(book: Book, piece: Piece, node: Node, each: float) -> int:
    """Give the one task of `piece` to a second node as well; returns the attempt number."""
    job, index = piece.chunk.job, piece.indices.start
    speculation = _of(job)
    attempt = piece.chunk.attempts[piece.lo] + 1
    speculation.twins[index] = Twin(node, attempt)
    speculation.given += 1
    node.twins.add((job, index))
    node.gain(piece, each)
    job.session.assigned += 1
    job.session.charge(each)
    book.counters["tasks_speculated"] += 1
    book.fleet.update(node)
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


def drop(book: Book, piece: Piece, node: Node, *, started: bool) -> None:
    """The attempt in the columns, which was `node`'s, is over without an answer; its twin goes on."""
    job, index = piece.chunk.job, piece.indices.start
    _swap(job, index)
    lost = _of(job).twins[index]
    _leave(book, piece, lost, node)
    if job.options.durable and started and lost.attempt < piece.chunk.attempts[piece.lo]:
        book.record(AttemptsStale(job.id, [index], lost.attempt + 1))


def end(book: Book, piece: Piece, *, done: bool) -> None:
    """Tasks have ended; `done`: with a value."""
    twins = _of(piece.chunk.job).twins
    for offset, index in enumerate(piece.indices, piece.lo):
        if done and index in twins and twins[index].attempt < piece.chunk.attempts[offset]:
            book.counters["speculations_won"] += 1
    stop(book, piece)


def stop(book: Book, piece: Piece) -> None:
    """Stop the twins of tasks that have an answer, or that nobody wants any more."""
    job = piece.chunk.job
    for offset, index in enumerate(piece.indices, piece.lo):
        twin = _of(job).twins.get(index)
        if twin is None or twin.node is None:
            continue
        node = twin.node
        _leave(book, piece._replace(lo=offset, hi=offset + 1), twin, node)
        node.stop((job.id, twin.attempt, index), job.resources)
        if node.linked:  # else it is not told to keep it when it is back
            book.send(node.peer, Cancel([Span(job.id, twin.attempt, [index])]))
        book.fleet.update(node)


def is_stopping(book: Book, job: Job) -> bool:
    """Whether some node has yet to say that an attempt of a job is over."""
    return _of(job).given > 0 and any(
        attempt[0] == job.id for node in book.fleet for attempt in node.stopping
    )


def _leave(book: Book, piece: Piece, twin: Twin, node: Node) -> None:
    job = piece.chunk.job
    twin.node = None
    node.twins.discard((job, piece.indices.start))
    node.lose(piece)
    job.session.assigned -= 1
    book.unpark(job.session)


def _swap(job: Job, index: int) -> None:
    """A task's attempt in the columns and its twin change places."""
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
