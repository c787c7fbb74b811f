"""Which node, and how much: nodes by what they can take, and the size of what they get.

A node with an idle slot comes before one that is merely not full. How much a node gets follows from
how long the function's tasks take: a slot's share of waiting work is `Limits.horizon` seconds, so a
busy system sends thousands of tiny tasks in one message, while a slow task never waits behind
another that is slow. All choices cost the same whatever the number of nodes.

Nodes may differ in what they can run at all (their labels: another Python, no pickles). They are kept
sorted for each set of labels that jobs have asked for, which is one where all are alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

from manyhands_broker.core.job import Job
from manyhands_broker.core.kind import Kind, Needs
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.node import Node

K = TypeVar("K")
V = TypeVar("V")

#: Kinds of tasks, and sets of labels, for which nodes are kept sorted; the oldest gives way and is
#: sorted anew if it is asked for again.
MAX_KINDS = 64


class _Group:
    """The nodes with certain labels: with an idle slot; that can take more. Dicts as ordered sets."""

    __slots__ = ("idle", "room")

    def __init__(self) -> None:
        self.idle: dict[Node, None] = {}
        self.room: dict[Node, None] = {}


class Fleet:
    """The nodes that are in."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.by_peer: dict[bytes, Node] = {}
        self.by_name: dict[str, Node] = {}
        self.by_row: dict[int, Node] = {}
        self._free_rows: list[int] = []
        #: Nodes with a slot that has nothing to do, and with tasks that no slot of theirs can have
        #: started.
        self._idle: dict[Node, None] = {}
        self._surplus: dict[Node, None] = {}
        #: Nodes by the labels that have been asked for; and those that can start a task of a kind now,
        #: for each kind with resources.
        self._groups: dict[Needs, _Group] = {}
        self._fit: dict[Kind, dict[Node, None]] = {}
        self.slots = 0

    def __iter__(self) -> Iterator[Node]:
        return iter(self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def free_row(self) -> int:
        """A row of the last-seen table that no node has."""
        return self._free_rows.pop() if self._free_rows else len(self.by_row)

    def add(self, node: Node) -> None:
        """A node has come in."""
        self.by_peer[node.peer] = node
        self.by_name[node.name] = node
        self.by_row[node.row] = node
        self.slots += node.slots
        self.update(node)

    def remove(self, node: Node) -> None:
        """A node is gone; nothing will be given to it again."""
        self.by_peer.pop(node.peer, None)
        del self.by_name[node.name]
        del self.by_row[node.row]
        self._free_rows.append(node.row)
        self.slots -= node.slots
        for group in self._groups.values():
            group.idle.pop(node, None)
            group.room.pop(node, None)
        for members in (self._idle, self._surplus, *self._fit.values()):
            members.pop(node, None)

    def resize(self, node: Node, slots: int, window: int) -> None:
        """The node says how many slots it has and how many tasks it will hold."""
        self.slots += slots - node.slots
        node.slots = slots
        node.window = window
        self.update(node)

    def update(self, node: Node) -> None:
        """Sort the node anew after anything about it has changed."""
        takes = node.linked and not node.draining and node.held < node.window
        idle = takes and node.held < node.slots
        room = takes and not node.wary and node.load < node.slots * self._limits.lookahead
        _put(self._idle, node, idle)
        _put(self._surplus, node, node.linked and node.held > node.slots)
        for needs, group in self._groups.items():
            meets = node.meets(needs)
            _put(group.idle, node, idle and meets)
            _put(group.room, node, room and meets)
        for kind, members in self._fit.items():
            fits = idle and node.meets(kind.needs) and node.fits(kind.resources) > 0
            _put(members, node, fits)

    def pick(self, job: Job) -> Node | None:
        """The node that takes the job's next tasks; the others' turn comes after it."""
        if job.resources:
            fitting = self._fit.get(job.kind)
            if fitting is None:
                fitting = self._begin(self._fit, job.kind, {})
            return _turn(fitting) if fitting else None
        group = self._group(job)
        if group.idle:
            return _turn(group.idle)
        if group.room and not job.suspects:
            return _turn(group.room)
        return None

    def _group(self, job: Job) -> _Group:
        needs = job.kind.needs
        group = self._groups.get(needs)
        return self._begin(self._groups, needs, _Group()) if group is None else group

    def _begin(self, table: dict[K, V], key: K, value: V) -> V:
        """Keep nodes sorted for something else as well."""
        if len(table) >= MAX_KINDS:
            del table[next(iter(table))]
        table[key] = value
        for node in self:
            self.update(node)
        return value

    def amount(self, node: Node, job: Job, queued: int) -> int:
        """How many of the job's tasks `node` gets now; none if it has enough of such."""
        limits = self._limits
        idle = node.slots - node.held
        if job.resources:
            return max(1, min(idle, node.fits(job.resources)))
        if job.suspects or node.wary:
            return max(1, idle)
        each = limits.unmeasured if job.estimate is None else max(job.estimate, 1e-7)
        target = limits.horizon
        if job.estimate is not None:
            target = max(target, min(2 * each, limits.lookahead))
        by_time = math.ceil((node.slots * target - node.load) / each)
        count = min(max(by_time, idle), node.window - node.held, limits.batch_tasks)
        # What is left is split by slots, so that the last of it does not sit on the first to ask.
        share = max(math.ceil(queued * node.slots / max(self.slots, 1)), int(limits.grain / each))
        return max(0, min(count, max(share, idle)))

    @property
    def idle(self) -> bool:
        """Whether some slot has nothing to do."""
        return bool(self._idle)

    @property
    def uneven(self) -> bool:
        """Whether some slot has nothing to do while elsewhere tasks wait for theirs."""
        return bool(self._idle) and bool(self._surplus)

    def overloaded(self, now: float) -> Iterator[Node]:
        """Nodes with tasks that wait for a slot there and would not get one soon."""
        limits = self._limits
        for node in self._surplus:
            slow = node.load > node.slots * limits.recall_after
            silent = now - node.last_result > limits.recall_after
            if node.held <= node.slots:
                continue  # sorted before tasks of it ended without its doing
            if node.recalling or now < node.recall_at or not (slow or silent):
                continue
            # Some of what it has must be what a node with an idle slot can run.
            if any(self._group(job).idle for job in node.loads):
                yield node


def _put(members: dict[Node, None], node: Node, wanted: bool) -> None:
    if wanted:
        members[node] = None
    else:
        members.pop(node, None)


def _turn(members: dict[Node, None]) -> Node:
    node = next(iter(members))
    del members[node]
    members[node] = None
    return node
