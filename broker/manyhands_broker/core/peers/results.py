"""How attempts end: results, crashes, blame, and what a node really has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from manyhands_broker.core.model.chunk import Chunk, Piece
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.peers.orphans import Orphans
from manyhands_broker.core.peers.retry import retry_delay
from manyhands_broker.core.peers.task_inputs import TaskInputs
from manyhands_broker.core.state import twins
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Relay, ResultGroup, Span, Status, Taken
from manyhands_shared.text import amount

#: What an attempt may end as that is looked at even while the same task runs elsewhere.
_OF_ONE = frozenset((Status.OK, Status.HELD, Status.CRASHED))
#: What people are told that an attempt has come to.
_FAILED = {
    Status.RAISED: "failed",
    Status.TIMED_OUT: "timed out",
    Status.UNSENDABLE: "failed",
    Status.LOST: "lost",
}
#: Seconds that a node may always say a task took, whenever its job came: clocks step.
_SHORTEST_BOUND = 1.0


class Outcomes:
    """What becomes of tasks that nodes have."""

    def __init__(self, transitions: Transitions, orphans: Orphans, task_inputs: TaskInputs) -> None:
        self._transitions = transitions
        self.task_inputs = task_inputs
        self._state = transitions.state
        self._orphans = orphans

    def results(self, node: Node, group: ResultGroup) -> None:
        """End the tasks that a node says have ended, those that it has in this attempt."""
        try:
            self._results(node, group)
        except Exception as error:  # noqa: BLE001 - reported; it ends the job
            self._state.breakdowns.of(error, self._state.jobs.get(group.job))

    def _results(self, node: Node, group: ResultGroup) -> None:
        state = self._state
        if node.stopping:
            group = _without_stopped(node, group)
            if not group.indices:
                return
        job = state.jobs.get(group.job)
        count = len(group.indices)
        if job is None:
            if not self._orphans.result(node, group):
                state.counters["stale_results"] += count
                self._let_go(node, group, [])
            return
        if group.job in self._orphans:
            # The client has submitted only a part of it yet, and the others must not be forgotten.
            self._orphans.result(node, group)
        node.done += count
        owned = list(self.owned(node, Span(group.job, group.attempt, group.indices)))
        accepted = sum(piece.size for piece in owned)
        # Without seconds, the group is about results that were told of before.
        if accepted and group.seconds:
            self._measure(job, accepted, group.seconds * accepted / count)
        state.counters["stale_results"] += count - accepted
        if accepted == count and not any(group.statuses):
            self._transitions.conclude(job, owned, node, group)
        else:
            self._let_go(node, group, owned)
            self._mixed_results(job, node, group, owned)

    def _measure(self, job: Job, count: int, seconds: float) -> None:
        """Take into the job's estimate how long tasks took.

        What that is beyond the expected seconds, charged when they were given out, is charged now. Or
        jobs whose tasks are not measured yet would be cheap, however long these take. A node that
        exaggerates is believed only as far as there was time since the job came.
        """
        state = self._state
        seconds = min(seconds, count * max(_SHORTEST_BOUND, state.now - job.submitted))
        rest = seconds - count * job.expected(state.limits.unmeasured)
        if rest > 0:
            job.session.charge(rest)
        job.measured(count, seconds)

    def _let_go(self, node: Node, group: ResultGroup, counting: list[Piece]) -> None:
        """Have a node let go of held results that are stale: no client will fetch them."""
        if Status.HELD not in group.statuses:
            return
        count = {index for piece in counting for index in piece.indices}
        ended = zip(group.indices, group.statuses, strict=True)
        stale = [
            index
            for index, status in ended
            if status == Status.HELD
            and index not in count
            and not self._orphans.waits_for(group.job, index)
        ]
        if stale:
            self._state.send(node.peer, Taken([Span(group.job, group.attempt, stale)]))

    def _mixed_results(self, job: Job, node: Node, group: ResultGroup, owned: list[Piece]) -> None:
        """End results one by one: some are stale, or failed and perhaps run again."""
        state = self._state
        places = {index: place for place, index in enumerate(group.indices)}
        ended: list[tuple[Piece, int]] = []
        for piece in (single for part in owned for single in part.singles()):
            index = piece.indices.start
            place = places[index]
            status, body = Status(group.statuses[place]), group.bodies[place]
            if status not in _OF_ONE and twins.runs_twice(job, index):
                self._transitions.requeue(piece, node)
                continue
            if node.fails(job.kind.needs) and self._is_for_another(job, index, status):
                state.histories.failed(
                    job, (index, group.attempt), node.name, "given to another", body, state.now
                )
                self._transitions.requeue(piece, node, started=False)
                continue
            delay = retry_delay(job, index, status, body, state.random)
            if status in _FAILED:
                what = _FAILED[status] if delay is None else "retried"
                state.histories.failed(
                    job, (index, group.attempt), node.name, what, body, state.now
                )
            if status == Status.HELD:
                if job.speculation is not None:
                    job.speculation.since.pop(index, None)
                    twins.stop(state, piece)
                node.hold_result(piece, body)
                state.unpark(job.session)
                self._held_for_client(job, node, group.part([place]))
                self.task_inputs.held_result(job, index, body, node)
            elif status == Status.INPUT_GONE:
                self.task_inputs.gone(piece, node, body)
            elif status == Status.CANCELLED:
                if index in job.cancelling or job.terminating or job.options.durable:
                    self._transitions.cancel(piece, node)
                else:
                    # Another broker wanted it, or this one for a session that it had given up.
                    self._transitions.requeue(piece, node)
            elif status == Status.CRASHED:
                self._crashed(piece, node, body)
            elif delay is not None and index not in job.cancelling:
                state.counters["tasks_retried"] += 1
                state.tried(job, index, group.attempt)
                self._transitions.retry_later(piece, node, delay)
            else:
                ended.append((piece, place))
        if ended:
            pieces, concluded = zip(*ended, strict=True)
            self._transitions.conclude(job, pieces, node, group.part(concluded))

    def _is_for_another(self, job: Job, index: int, status: Status) -> bool:
        """Whether a task may run elsewhere that has failed where its environment cannot be made."""
        if status != Status.RAISED or index in job.cancelling:
            return False
        return self._state.fleet.may_have_environment(job)

    def _held_for_client(self, job: Job, node: Node, group: ResultGroup) -> None:
        """Tell the client of a result that the node holds for it; the task stays assigned."""
        state = self._state
        if job.options.durable:
            state.send(node.peer, Relay([Span(job.id, group.attempt, group.indices)]))
        elif job.session.token in state.sessions:
            state.tell(job.session, group)

    def taken(self, job: Job, span: Span) -> None:
        """End tasks whose held results the client has fetched, those that still count."""
        for piece, node in list(self.assigned(job, span)):
            state = self._state
            indices = list(piece.indices)
            state.send(node.peer, Taken([Span(job.id, span.attempt, indices)]))
            self._transitions.end_alike(piece, node, Status.OK, b"")
            state.fleet.update(node)

    def relay(self, job: Job, span: Span) -> None:
        """Have held results come through here: the client cannot fetch them."""
        for piece, node in self.assigned(job, span):
            self._state.send(node.peer, Relay([Span(job.id, span.attempt, list(piece.indices))]))

    def assigned(self, job: Job, span: Span) -> Iterator[tuple[Piece, Node]]:
        """Yield the tasks of `span` that a node has in just this attempt, one by one."""
        for piece in list(job.pieces(span.indices)):
            chunk = piece.chunk
            for offset in range(piece.lo, piece.hi):
                node = chunk.holders[offset]
                if node is not None and chunk.attempts[offset] == span.attempt:
                    yield Piece(chunk, offset, offset + 1), node

    def _crashed(self, piece: Piece, node: Node, body: Payload) -> None:
        """Blame a task that ended its child; perhaps it may try again."""
        self._state.counters["child_deaths"] += 1
        self._charge(piece, node, f"on node {node.name}: {Failure.decode(body).message}")

    def blame(self, piece: Piece, node: Node, why: str, precise: bool) -> None:
        """Blame the tasks with which a node died. Where they are many, run them apart next time.

        Those that had run already, and whose results are lost with the node, are not to blame.
        """
        if node.held_results and piece.size > 1:
            for single in piece.singles():
                self.blame(single, node, why, precise)
            return
        if (piece.chunk, piece.lo) in node.held_results:
            self._transitions.requeue(piece, node)
            return
        job = piece.chunk.job
        if precise and not job.options.at_most_once:
            for offset in range(piece.lo, piece.hi):
                self._charge(
                    Piece(piece.chunk, offset, offset + 1), node, f"node {node.name}: {why}"
                )
            return
        indices = piece.indices
        self._transitions.requeue(piece, node)
        if not job.finished:
            job.suspects.update(
                index
                for index in indices
                if piece.chunk.states[index - piece.chunk.base] == TaskState.QUEUED
            )

    def _charge(self, piece: Piece, node: Node, line: str) -> None:
        state = self._state
        job, index = piece.chunk.job, piece.indices.start
        attempt = piece.chunk.attempts[piece.lo]
        if index in job.cancelling:
            self._transitions.cancel(piece, node)
            return
        crash = Failure("manyhands.TaskCrashed", line)
        state.histories.failed(job, (index, attempt), node.name, "crashed", crash, state.now)
        story = job.blames.setdefault(index, [])
        story.append(f"attempt {attempt} {line}")
        job.tell(f"task {index}: {story[-1]}")
        state.tried(job, index, attempt)
        limit = job.options.crash_limit or state.limits.crash_limit
        if twins.runs_twice(job, index):
            self._transitions.requeue(piece, node)
            return
        if len(story) < limit and not job.options.at_most_once:
            self._transitions.requeue(piece, node)
            return
        state.counters["tasks_quarantined"] += 1
        failure = Failure(
            "manyhands.TaskCrashed",
            f"task {index} of job {job.id} ended {amount(len(story), 'process', 'processes')} "
            "and is not run again: " + "; ".join(story),
            story=tuple(story),
        )
        state.say(logging.WARNING, failure.message, job=job.id, node=node.name)
        self._transitions.end_alike(piece, node, Status.CRASHED, failure.encode())

    def owned(self, node: Node, span: Span) -> Iterator[Piece]:
        """Yield the part of `span` that `node` has in just this attempt, each task once."""
        job = self._state.jobs.get(span.job)
        if job is None:
            return
        if node.twins:
            twins.put_first(node, job, span.indices)
        indices = span.indices
        if len(set(indices)) != len(indices):
            indices = list(dict.fromkeys(indices))
        for piece in list(job.pieces(indices)):
            chunk, lo, hi = piece
            count = piece.size
            if chunk.holders[lo:hi].count(node) == count and (
                chunk.attempts[lo:hi].count(span.attempt) == count
            ):
                yield piece
                continue
            for offset in range(lo, hi):
                if chunk.holders[offset] is node and chunk.attempts[offset] == span.attempt:
                    yield Piece(chunk, offset, offset + 1)

    def taking(self, node: Node, spans: list[Span]) -> set[tuple[Job, int]]:
        """Return the tasks of `spans` that run or wait on `node` and take something of it."""
        return {
            (piece.chunk.job, index)
            for span in spans
            for piece in self.owned(node, span)
            if piece.chunk.job.resources
            for offset, index in enumerate(piece.indices, piece.lo)
            if (piece.chunk, offset) not in node.held_results
        }


def _without_stopped(node: Node, group: ResultGroup) -> ResultGroup:
    """Return what of a group is not about attempts that were stopped because another one was first."""
    remaining = []
    for place, index in enumerate(group.indices):
        attempt = (group.job, group.attempt, index)
        # A held result is let go of when the order to stop reaches it, and cancelled then.
        is_held = group.statuses[place] == Status.HELD
        if not (attempt in node.stopping if is_held else node.stopped(attempt)):
            remaining.append(place)
    if len(remaining) == len(group.indices):
        return group
    seconds = group.seconds * len(remaining) / len(group.indices)
    return replace(group.part(remaining), seconds=seconds)


def runs(chunk: Chunk, node: Node) -> Iterator[Piece]:
    """Yield what `node` has of `chunk`, in runs of one attempt. Moving what is yielded is allowed."""
    holders, attempts = chunk.holders, chunk.attempts
    lo = 0
    while lo < len(holders):
        hi = lo + 1
        if holders[lo] is node:
            while hi < len(holders) and holders[hi] is node and attempts[hi] == attempts[lo]:
                hi += 1
            yield Piece(chunk, lo, hi)
        lo = hi
