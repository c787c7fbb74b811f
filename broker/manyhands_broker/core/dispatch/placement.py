"""Tasks go where their stored values are, when that is cheaper than to bring these to a free slot.

The next tasks of a job that refer to the same values go together. Two times are weighed for them. One
is how long they would wait for a slot of a node that has the values. The other is how long the values
take to a node that could start at once. The wait is what the node has to do, by the measured duration
of its tasks. A node that has brought no result for a while is taken to bring none for as long again. So
a task waits for its data no longer than the data would take to come to it, nor than `MOST_WAIT`.

Whatever is known here may be wrong: it costs a transfer, no more. The cost of placing does not grow with
the number of nodes. Some nodes have the values; others run on the client's host and can borrow them. Of
both a few are looked at, each time others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.stored_value import StoredValue
from manyhands_broker.core.peers.relays.value_relay import ValueRelay
from manyhands_broker.core.state.scheduler_state import SchedulerState

#: Seconds that a task waits at most: what waits on a node is ahead of what others submit later.
MOST_WAIT = 5.0
#: Nodes with the values that are considered, and as many again on their client's host.
_CANDIDATES = 8
#: Tasks that are placed at a time.
_AT_ONCE = 64


class Place(NamedTuple):
    """A node for `tasks` of a job's next tasks."""

    node: Node
    tasks: int


class Placer:
    """Chooses nodes for jobs some of whose tasks refer to stored values."""

    def __init__(self, state: SchedulerState, value_relay: ValueRelay) -> None:
        self._state = state
        self._value_relay = value_relay

    def place(self, job: Job) -> Place | None:
        """Return where the job's next tasks go; `None` if no node has room."""
        fleet = self._state.fleet
        free = fleet.pick(job)
        if free is None:
            return None
        items, count = _next(job)
        amount = fleet.amount(free, job, self._state.queued)
        # What is dear enough to wait for as long as one may is not told apart.
        cost = min(self._wait(free) + self._bring(items, free), MOST_WAIT)
        best, least = free, cost
        if cost:
            for node in self._candidates(job, items):
                if node is not free and fleet.accepts(node, job):
                    other = self._wait(node) + self._bring(items, node)
                    if other < least:
                        best, least = node, other
        if best is not free:
            each = self._state.limits.unmeasured if job.estimate is None else job.estimate
            # As many as are better off waiting there than where there is room now.
            amount = max(
                best.slots - best.active, int((cost - least) * best.slots / max(each, 1e-6))
            )
            amount = min(max(1, amount), best.window - best.active)
            if job.resources:
                amount = min(amount, best.slots - best.active, best.fits(job.resources))
            job.transfer_seconds = min(self._bring(items, free), MOST_WAIT)
        count = min(count, amount)
        if not count:
            return None
        if items and self._bring(items, best) == 0:
            self._state.counters["tasks_placed"] += count
        for item in items:
            item.comes_to(best)
        return Place(best, count)

    def _candidates(self, job: Job, items: tuple[StoredValue[Node], ...]) -> Iterator[Node]:
        if not items:
            return islice(self._state.fleet.on_host(job.session.host_id), _CANDIDATES)
        largest = max(items, key=lambda item: item.size)
        near = self._state.fleet.on_host(largest.host_id)
        return chain(islice(near, _CANDIDATES), list(islice(largest.places, _CANDIDATES)))

    def _bring(self, items: tuple[StoredValue[Node], ...], node: Node) -> float:
        """Return the seconds until a node that has not got the values has them."""
        host = node.host_id
        away = (
            item for item in items if not (host and host == item.host_id) and not item.is_at(node)
        )
        return self._value_relay.seconds(sum(item.size for item in away))

    def _wait(self, node: Node) -> float:
        """Return the seconds until a slot of a node is free for another task."""
        behind = node.active - node.slots
        if behind < 0:
            return 0.0
        by_work = (behind + 1) * node.load / (node.active * node.slots)
        return max(by_work, self._state.now - node.last_result)


def _next(job: Job) -> tuple[tuple[StoredValue[Node], ...], int]:
    """Return what the next tasks of a job refer to, all the same, and how many these are."""
    piece = job.take(_AT_ONCE)
    if piece is None:
        return (), 1
    job.put_back(piece)
    inputs = piece.chunk.inputs
    if not inputs:
        return (), piece.size
    items = inputs.get(piece.lo, ())
    end = piece.lo + 1
    while end < piece.hi and inputs.get(end, ()) == items:
        end += 1
    return items, end - piece.lo
