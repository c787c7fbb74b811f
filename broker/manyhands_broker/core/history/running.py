"""What runs on nodes just now, as they told last: only kept, and put together for those who look on.

A node's word takes the place of what it said before. So nothing here grows with tasks, and nothing is
done for an event but to keep what came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from manyhands_broker.core.model.node import Node
from manyhands_shared.protocol.messages import MAX_RUNNING, RUN_FIGURES, RunGroup

#: Tasks that those who look on are told of at a time.
MOST = 500


class RunningTask(NamedTuple):
    """Task `task` of a job, which has run in a slot since `begun`, as the broker's clock has it."""

    job: str
    node: Node
    slot: int
    attempt: int
    task: int
    begun: float


def keep(node: Node, groups: Sequence[RunGroup], now: float) -> None:
    """Keep what a node says that it runs; nothing where it says more than it may."""
    is_bounded = sum(len(group.figures) for group in groups) <= MAX_RUNNING * RUN_FIGURES
    node.running = now, list(groups) if is_bounded else []


def gather(nodes: Iterable[Node]) -> list[RunningTask]:
    """Return what runs, of the first nodes by name where it is much: so a page shows them."""
    at_work = sorted((one for one in nodes if one.running[1]), key=lambda node: node.name)
    return list(islice((task for node in at_work for task in _of(node)), MOST))


def _of(node: Node) -> Iterator[RunningTask]:
    told, groups = node.running
    for group in groups:
        figures = group.figures
        for at in range(0, len(figures) - RUN_FIGURES + 1, RUN_FIGURES):
            index, _, slot, ago = figures[at : at + 4]
            yield RunningTask(group.job, node, slot, group.attempt, index, told - ago / 1e6)
