"""Every invariant of the scheduler, checked the slow way. For tests and the simulator."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from manyhands_broker.core.book import Book
from manyhands_broker.core.job import CHUNK, Job
from manyhands_broker.core.node import Node
from manyhands_broker.core.states import TERMINAL, State


def validate(book: Book) -> None:
    """Raise `AssertionError` naming the first thing that does not add up."""
    held: dict[Node, int] = Counter()
    queued = 0
    for job in book.jobs.values():
        queued += job.queued
        _job(job, held)
        _check(not job.finished, f"job {job.id} is over and still listed")
        _check(job.listed or not job.runnable, f"job {job.id} waits and is not in line")
    _check(book.queued == queued, f"{book.queued} queued by count, {queued} by jobs")
    for node in book.fleet:
        _check(held[node] == node.held, f"node {node.name} holds {held[node]}, counts {node.held}")
        _check(sum(node.holds.values()) == node.held, f"node {node.name}: holds do not add up")
        load = sum(count * each for count, each in node.loads.values())
        _check(
            abs(load - node.load) < 1e-6 + 1e-9 * load,
            f"node {node.name}: load is {node.load}, not {load}",
        )
        _check(book.fleet.by_row.get(node.row) is node, f"node {node.name} has lost its row")
    _check(set(held) <= set(book.fleet), "a task is held by a node that is gone")
    for session in [*book.sessions.values(), *book.owners.values()]:
        mine = [job for job in book.jobs.values() if job.session is session]
        assigned = sum(job.assigned for job in mine)
        _check(
            session.assigned == assigned,
            f"session {session.name}: {session.assigned} assigned, {assigned}",
        )
        unfinished = sum(job.assigned + job.queued for job in mine)
        _check(
            session.unfinished == unfinished,
            f"session {session.name}: unfinished tasks do not add up",
        )
        size = sum(part[2] for part in session.unacked)
        _check(
            session.unacked_bytes == size,
            f"session {session.name}: unacknowledged bytes do not add up",
        )


def _job(job: Job, held: dict[Node, int]) -> None:
    name = f"job {job.id}"
    counts = Counter[int]()
    lines = sorted(job.ready)
    _check(
        all(one[1] <= two[0] for one, two in pairwise(lines)), f"{name}: tasks are in line twice"
    )
    for base, chunk in job.chunks.items():
        states, size = chunk.states, len(chunk.states)
        _check(base == chunk.base and base % CHUNK == 0, f"{name}: a chunk is misplaced")
        lengths = {size, len(chunk.attempts), len(chunk.holders), len(chunk.payloads)}
        _check(len(lengths) == 1, f"{name}: columns of unequal length")
        counts.update(states)
        assigned = [state == State.ASSIGNED for state in states]
        _check(
            [holder is not None for holder in chunk.holders] == assigned,
            f"{name}: a task is held and not assigned, or the other way round",
        )
        _check(
            [payload is None for payload in chunk.payloads] == [s in TERMINAL for s in states],
            f"{name}: an unfinished task without payload, or a finished one with",
        )
        for holder, count in Counter(chunk.holders).items():
            if holder is not None:
                held[holder] += count
        _check(
            all(a > 0 for a, on in zip(chunk.attempts, assigned, strict=True) if on),
            f"{name}: a task is assigned in no attempt",
        )
        covered = bytearray(size)
        for lo, hi in lines:
            first, last = max(lo - base, 0), min(hi - base, size)
            if first < last:
                covered[first:last] = b"\1" * (last - first)
        _check(
            all(
                on or base + offset in job.delayed or base + offset in job.uncertain
                for offset, (state, on) in enumerate(zip(states, covered, strict=True))
                if state == State.QUEUED
            ),
            f"{name}: a task is queued and not in line",
        )
        left = sum(state not in TERMINAL for state in states)
        _check(left == chunk.left, f"{name}: {chunk.left} unfinished in a chunk, {left} found")
    for state in (State.QUEUED, State.ASSIGNED):
        _check(counts[state] == job.counts[state], f"{name}: {state.name} does not add up")
    _check(sum(job.counts) == job.total, f"{name}: its tasks do not add up")


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise AssertionError(text)
