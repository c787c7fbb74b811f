"""Attempts that nodes bring back from before the broker's start, for jobs it does not know yet.

An attached job is with its client's session. After a restart the client submits it again, with the same
id, in as many messages as it likes. Until then the nodes go on running its tasks, and here is the list
of what they run. The broker stops what no client claims within the session grace.
"""

from __future__ import annotations

from dataclasses import replace

from manyhands_broker.core.model.attempts import Adoption
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.task_state import TaskState
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages import ResultGroup, Span, Status

#: The highest attempt that a node may claim to run: many more must be left to be given out.
MAX_CLAIM = 1 << 30
#: Bytes of results of jobs that no client has submitted yet. Beyond that a task runs again.
MAX_BYTES = 64 << 20


class _Attempt:
    """A task that a node runs; once it has ended, its place in the results that came."""

    __slots__ = ("group", "node", "number", "place")

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.number = number
        self.group: ResultGroup | None = None
        self.place = 0

    @property
    def open(self) -> bool:
        """Whether the node still has it."""
        return self.group is None or self.group.statuses[self.place] == Status.HELD


class Orphans:
    """Attempts without a job."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[int, _Attempt]] = {}
        self._bytes = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._tasks

    def waits_for(self, job_id: str, index: int) -> bool:
        """Return whether a task is here: some node has it, and no client has submitted it yet."""
        return index in self._tasks.get(job_id, ())

    def add(self, node: Node, span: Span) -> tuple[Span, list[tuple[Node, Span]]]:
        """Note attempts that a node has.

        Returns:
            What of them it is to keep; what other nodes run for nothing now, as this is a later attempt.
        """
        tasks = self._tasks.setdefault(span.job, {})
        accepted = []
        unwanted: list[tuple[Node, Span]] = []
        for index in dict.fromkeys(span.indices):
            known = tasks.get(index)
            if known is None or known.number < span.attempt:
                if known is not None and known.group is not None:
                    self._bytes -= total([known.group.bodies[known.place]])
                if known is not None and known.open:
                    unwanted.append((known.node, Span(span.job, known.number, [index])))
                tasks[index] = _Attempt(node, span.attempt)
            elif known.node is not node or known.number != span.attempt:
                continue
            accepted.append(index)
        return Span(span.job, span.attempt, accepted), unwanted

    def result(self, node: Node, group: ResultGroup) -> bool:
        """Keep results until their job is known; return false if they are of no attempt here."""
        tasks = self._tasks.get(group.job, {})
        places = [
            (index, place)
            for place, index in enumerate(group.indices)
            if (known := tasks.get(index)) is not None
            and known.group is None
            and (known.node, known.number) == (node, group.attempt)
        ]
        if not places:
            return False
        size = total(group.bodies)
        if self._bytes + size > MAX_BYTES:
            # The node lets go of them now: they run again once their client submits them.
            for index, _ in places:
                del tasks[index]
            return False
        self._bytes += size
        for index, place in places:
            tasks[index].group, tasks[index].place = group, place
        return True

    def claim(
        self, job: Job
    ) -> tuple[list[Adoption], list[tuple[Node, ResultGroup]], list[tuple[Node, Span]]]:
        """Hand over what is here of a job, as tasks of it were submitted.

        Returns:
            The tasks that nodes have; the results that have come of them already; what nodes run of
            it for nothing.
        """
        adopted: list[Adoption] = []
        results: list[tuple[Node, ResultGroup]] = []
        unwanted: list[tuple[Node, Span]] = []
        tasks = self._tasks.get(job.id, {})
        for index in sorted(index for index in tasks if index < job.total):
            attempt = tasks.pop(index)
            pieces = [
                piece
                for piece in job.pieces([index])
                if piece.chunk.states[piece.lo] == TaskState.QUEUED
                # The others were counted.
                and piece.chunk.attempts[piece.lo] < attempt.number
            ]
            if not attempt.node.suits(job.kind):
                # The broker never gave it this.
                pieces = []
            adopted += [Adoption(piece, attempt.node, attempt.number) for piece in pieces]
            if attempt.group is not None:
                result = _single(attempt.group, attempt.place)
                self._bytes -= total(result.bodies)
                results.append((attempt.node, result))
            if attempt.open and not pieces:
                unwanted.append((attempt.node, Span(job.id, attempt.number, [index])))
        if not tasks:
            self._tasks.pop(job.id, None)
        return adopted, results, unwanted

    def returned(self, node: Node, span: Span) -> None:
        """Forget attempts that a node gives back unstarted."""
        tasks = self._tasks.get(span.job, {})
        for index in span.indices:
            known = tasks.get(index)
            if known is not None and (known.node, known.number) == (node, span.attempt):
                del tasks[index]

    def unlinked(self, node: Node) -> None:
        """Forget what a node runs: it says so anew over a new link. Its results that came stay."""
        self._drop(node, ended=False)

    def forget(self, node: Node) -> None:
        """Forget a node that is gone."""
        self._drop(node, ended=True)

    def give_up(self) -> list[tuple[Node, Span]]:
        """Forget what no client has claimed; return what to stop where."""
        spans = [
            (attempt.node, Span(job_id, attempt.number, [index]))
            for job_id, tasks in self._tasks.items()
            for index, attempt in tasks.items()
            if attempt.open
        ]
        self._tasks.clear()
        self._bytes = 0
        return spans

    def _drop(self, node: Node, *, ended: bool) -> None:
        for job_id, tasks in list(self._tasks.items()):
            for index, attempt in list(tasks.items()):
                if attempt.node is node and (ended or attempt.group is None):
                    if attempt.group is not None:
                        self._bytes -= total([attempt.group.bodies[attempt.place]])
                    del tasks[index]
            if not tasks:
                del self._tasks[job_id]


def _single(group: ResultGroup, place: int) -> ResultGroup:
    """Return one task's part of a group, with its share of the time."""
    return replace(group.part([place]), seconds=group.seconds / len(group.indices))
