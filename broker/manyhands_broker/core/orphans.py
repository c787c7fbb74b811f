"""Attempts that nodes bring back from before the broker's start, for jobs it does not know yet.

Attached jobs are held by their clients' sessions: after a restart the client submits them again, with
the same ids. Until then the nodes keep running them, and here is the list of what they run. What nobody
claims within the session grace is stopped.
"""

from __future__ import annotations

from manyhands_broker.core.job import Job, Piece
from manyhands_broker.core.node import Node
from manyhands_broker.core.states import State
from manyhands_shared.messages import ResultGroup, Span
from manyhands_shared.serial import total

#: Bytes of results that are kept for jobs nobody has submitted yet. Beyond that a task runs again.
MAX_BYTES = 64 << 20


class Orphans:
    """Attempts without a job."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[int, tuple[Node, int]]] = {}
        self._results: dict[str, list[tuple[Node, ResultGroup]]] = {}
        self._bytes = 0

    def add(self, node: Node, span: Span) -> Span:
        """A node holds these; returns what of them it is to keep."""
        tasks = self._tasks.setdefault(span.job, {})
        kept = [
            index
            for index in dict.fromkeys(span.indices)
            if index not in tasks or tasks[index][1] < span.attempt
        ]
        for index in kept:
            tasks[index] = (node, span.attempt)
        return Span(span.job, span.attempt, kept)

    def result(self, node: Node, group: ResultGroup) -> bool:
        """Keep results until their job is known; false if nobody waits for them."""
        tasks = self._tasks.get(group.job, {})
        if not any(tasks.get(index) == (node, group.attempt) for index in group.indices):
            return False
        size = total(group.bodies)
        if self._bytes + size > MAX_BYTES:
            return False
        self._bytes += size
        self._results.setdefault(group.job, []).append((node, group))
        return True

    def claim(
        self, job: Job
    ) -> tuple[list[tuple[Piece, Node, int]], list[tuple[Node, ResultGroup]]]:
        """A job was submitted: (tasks that nodes run already, results that have come already)."""
        if job.id not in self._tasks:
            return [], []
        adopted: list[tuple[Piece, Node, int]] = []
        tasks = self._tasks[job.id]
        for index in [index for index in tasks if index < job.total]:
            node, attempt = tasks.pop(index)
            adopted += [
                (piece, node, attempt)
                for piece in job.pieces([index])
                if piece.chunk.states[piece.lo] == State.QUEUED
            ]
        results = self._results.pop(job.id, [])
        self._bytes -= sum(total(group.bodies) for _, group in results)
        if not tasks:
            del self._tasks[job.id]
        return adopted, results

    def forget(self, node: Node) -> None:
        """A node is gone."""
        for job_id, tasks in list(self._tasks.items()):
            for index in [index for index, (holder, _) in tasks.items() if holder is node]:
                del tasks[index]
            if not tasks:
                del self._tasks[job_id]

    def give_up(self) -> list[tuple[Node, Span]]:
        """Nobody came for these: what to stop where."""
        spans = [
            (node, Span(job_id, attempt, [index]))
            for job_id, tasks in self._tasks.items()
            for index, (node, attempt) in tasks.items()
        ]
        self._tasks.clear()
        self._results.clear()
        self._bytes = 0
        return spans
