"""What a node runs already when it says hello: after the broker's start, or over a new link.

The broker compares what the node says it has with what it knows, and tells the node what to keep.
"""

from __future__ import annotations

from dataclasses import replace

from manyhands_broker.core.model.attempts import Adoption
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.peers.orphans import MAX_CLAIM, Orphans
from manyhands_broker.core.peers.results import Outcomes, runs
from manyhands_broker.core.state import twins
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.protocol.messages import Cancel, Span, WorkerHello


class Rejoining:
    """Attempts that nodes bring along."""

    def __init__(self, transitions: Transitions, orphans: Orphans, outcomes: Outcomes) -> None:
        self._transitions = transitions
        self._state = transitions.state
        self._orphans = orphans
        self._outcomes = outcomes

    def reclaim(self, node: Node, hello: WorkerHello) -> list[Span]:
        """Take over what a node runs that comes from before the broker's start.

        Only for a time after the start: what was queued since was never given to it. And only what
        it could have been given.
        """
        state = self._state
        keep: list[Span] = []
        late = state.now - state.started >= state.limits.session_grace
        for span in hello.holding:
            job = state.jobs.get(span.job)
            if job is None and not late:
                keep += self._adoptable(node, span)
                continue
            if job is None or late or span.attempt > MAX_CLAIM or not node.suits(job.kind):
                state.counters["refused_attempts"] += len(span.indices)
                # Sooner it would keep the attempt from the node that truly has it.
                if job is not None and late and span.attempt <= MAX_CLAIM:
                    job.pass_over(span.indices, span.attempt)
                continue
            adopted = [
                Adoption(piece, node, span.attempt)
                for part in job.pieces(list(dict.fromkeys(span.indices)))
                for piece in part.singles()
                if piece.chunk.states[piece.lo] == TaskState.QUEUED
                and piece.chunk.attempts[piece.lo] < span.attempt
            ]
            self._transitions.adopt(job, adopted)
            indices = [piece.indices.start for piece, _, _ in adopted]
            keep.append(Span(span.job, span.attempt, indices))
        return [span for span in keep if span.indices]

    def _adoptable(self, node: Node, span: Span) -> list[Span]:
        """Note attempts of a job that is not known: its client may still come back and want them."""
        state = self._state
        late = state.now - state.started >= state.limits.session_grace
        if late or span.job in state.finished_jobs or span.attempt > MAX_CLAIM:
            return []
        accepted, unwanted = self._orphans.add(node, span)
        for other, part in unwanted:
            state.send(other.peer, Cancel([part]))
        return [accepted] if accepted.indices else []

    def relink(self, node: Node, peer: bytes, hello: WorkerHello) -> list[Span]:
        """Compare what a node says it has over a new link with what it was given."""
        state = self._state
        if node.peer != peer:
            state.fleet.by_peer.pop(node.peer, None)
            state.forget(node.peer)
        node.peer = peer
        node.linked = True
        node.recalling = False
        node.functions.clear()
        for job in node.knows:
            job.known_by.discard(node)
        node.knows.clear()
        # It forgets them at its welcome.
        node.over.clear()
        state.fleet.by_peer[peer] = node
        self._orphans.unlinked(node)
        twins.put_all_first(node)
        holding = _without_stopped(node, hello.holding)
        keep: list[Span] = []
        confirmed: set[tuple[str, int]] = set()
        for span in holding:
            if span.job not in state.jobs:
                keep += self._adoptable(node, span)
                continue
            indices = [
                index for piece in self._outcomes.owned(node, span) for index in piece.indices
            ]
            if indices:
                keep.append(Span(span.job, span.attempt, indices))
                confirmed.update((span.job, index) for index in indices)
        for chunk in list(node.assigned):
            for piece in runs(chunk, node):
                for offset, index in enumerate(piece.indices, piece.lo):
                    if (chunk.job.id, index) not in confirmed:
                        self._transitions.requeue(Piece(chunk, offset, offset + 1), node)
        return keep


def _without_stopped(node: Node, holding: list[Span]) -> list[Span]:
    """Return what a node has that was not being stopped; it has dropped the rest itself."""
    stopping = list(node.stopping)
    if not stopping:
        return holding
    gone = {attempt for attempt in stopping if node.stopped(attempt)}
    return [
        replace(
            span,
            indices=[i for i in span.indices if (span.job, span.attempt, i) not in gone],
        )
        for span in holding
    ]
