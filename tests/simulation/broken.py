"""Deliberate faults of the software, to prove that the simulator would notice.

A *harm* is named; each part asks for its own when it starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from manyhands.session.types import Deliver
from manyhands_broker.core.book import singles
from manyhands_broker.core.job import Piece
from manyhands_broker.core.node import Node
from manyhands_shared.messages import ResultGroup, Span
from manyhands_shared.serial import Payload

if TYPE_CHECKING:
    from manyhands.session import Session
    from manyhands_broker.core import Core
    from manyhands_worker.core import NodeCore

HARMS = (
    "acknowledges before it commits",  # see `Broker._do`
    "ignores attempt numbers",
    "forgets a lease",
    "node does not send unacknowledged results again",
    "client does not look whether a result is new",
)


def harm_broker(harm: str, core: Core) -> None:
    """Do it to a scheduler."""
    workers: Any = core._workers
    if harm == "ignores attempt numbers":
        # Who holds the task is still looked at, so that nothing else than the number is missed.
        outcomes: Any = workers._outcomes

        def held(node: Node, span: Span) -> Iterator[Piece]:
            job = core.book.jobs.get(span.job)
            for piece in job.pieces(list(dict.fromkeys(span.indices))) if job is not None else ():
                for single in singles(piece):
                    if single.chunk.holders[single.lo] is node:
                        yield single

        assert hasattr(outcomes, "held")
        outcomes.held = held
    elif harm == "forgets a lease":
        workers._lease_check = workers._unlinked_too_long = lambda node, now: None


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
    if harm == "client does not look whether a result is new":
        books: Any = session.books
        watches: Any = session.watches
        end, take = books.end, watches.take

        def careless(group: ResultGroup) -> Deliver:
            end(group)
            return Deliver(group.job, group.indices, group.statuses, group.bodies)

        def blind(job: str, indices: list[int], statuses: bytes, bodies: list[Payload]) -> Deliver:
            take(job, indices, statuses, bodies)
            return Deliver(job, indices, statuses, bodies)

        books.end, watches.take = careless, blind
