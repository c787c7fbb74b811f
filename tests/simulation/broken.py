"""Deliberate faults of the software, to prove that the simulator would notice.

A *harm* is named; each part asks for its own when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from manyhands._session.effects import Deliver
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.node import Node
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Cancel, Message, ResultGroup, Span

if TYPE_CHECKING:
    from manyhands._session import Session
    from manyhands_broker.core import Core
    from manyhands_worker.core.node_core import NodeCore

HARMS = (
    "acknowledges before it commits",  # see `Broker._do`
    "ignores attempt numbers",
    "forgets a lease",
    "answers of both copies count",
    "node does not send unacknowledged results again",
    "client does not look whether a result is new",
    "client does not answer for results that the broker lacks",
)


def harm_broker(harm: str, core: Core) -> None:
    """Do it to a scheduler."""
    workers: Any = core._nodes
    if harm == "ignores attempt numbers":
        # Who holds the task is still looked at, so that nothing else than the number is missed.
        outcomes: Any = workers._outcomes

        def owned(node: Node, span: Span) -> Iterator[Piece]:
            job = core.state.jobs.get(span.job)
            for piece in job.pieces(list(dict.fromkeys(span.indices))) if job is not None else ():
                for single in piece.singles():
                    if single.chunk.holders[single.lo] is node:
                        yield single

        assert hasattr(outcomes, "owned")
        outcomes.owned = owned
    elif harm == "forgets a lease":
        workers._lease_check = workers._unlinked_too_long = lambda node, now: None
    elif harm == "answers of both copies count":
        _count_both(core)


def _count_both(core: Core) -> None:
    """The second run of a task that has an answer goes on, and its result is a result too."""
    state: Any = core.state
    transitions: Any = core._nodes._transitions
    outcomes: Any = core._nodes._outcomes
    send, results = state.send, outcomes.results

    def sparing(peer: bytes | None, message: Message) -> None:
        node = state.fleet.by_peer.get(peer)
        spans = message.spans if isinstance(message, Cancel) and node is not None else ()
        if not any((s.job, s.attempt, i) in node.stopping for s in spans for i in s.indices):
            send(peer, message)

    def counting(node: Node, group: ResultGroup) -> None:
        job = state.jobs.get(group.job)
        for place, index in enumerate(group.indices):
            attempt = (group.job, group.attempt, index)
            if job is not None and attempt in node.stopping and not group.statuses[place]:
                one = replace(
                    group, indices=[index], statuses=bytes(1), bodies=[group.bodies[place]]
                )
                transitions._report(job, one)
        results(node, group)

    assert hasattr(outcomes, "results")
    assert hasattr(transitions, "_report")
    state.send, outcomes.results = sparing, counting


def harm_node(harm: str, core: NodeCore) -> None:
    """Do it to a node."""
    if harm == "node does not send unacknowledged results again":
        outbox: Any = core._work._outbox
        restart = outbox.restart

        def forgetful(counts: Any) -> Any:
            outbox._sent.clear()
            return restart(counts)

        outbox.restart = forgetful


def harm_client(harm: str, session: Session) -> None:
    """Do it to a session."""
    if harm == "client does not answer for results that the broker lacks":
        results: Any = session._jobs.results
        assert hasattr(results, "want")
        results.want = lambda spans, unended: None
    if harm == "client does not look whether a result is new":
        jobs: Any = session._jobs
        subscriptions: Any = session._subscriptions
        end, take = jobs.end, subscriptions.take

        def careless(group: ResultGroup) -> Deliver:
            end(group)
            return Deliver(group.job, group.indices, group.statuses, group.bodies)

        def blind(job: str, indices: list[int], statuses: bytes, bodies: list[Payload]) -> Deliver:
            take(job, indices, statuses, bodies)
            return Deliver(job, indices, statuses, bodies)

        jobs.end, subscriptions.take = careless, blind
