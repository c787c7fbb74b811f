"""Which node, and how much: nodes by what they can take, and the size of what they get.

A node with an idle slot comes before one that is merely not full. How much a node gets follows from
how long the function's tasks take: a slot's share of waiting work is `Limits.horizon` seconds, so a
busy system sends thousands of tiny tasks in one message, while a slow task never waits behind
another that is slow. All choices cost the same whatever the number of nodes.

Nodes may differ in what they can run at all (their labels: another Python, no pickles). They are kept
sorted for each set of labels that jobs have asked for, which is one where all are alike.

They differ in how they are, too: heartbeats tell of machines that others keep busy, and of those that
are short of memory (`pressure`). The former come after the others. The latter get nothing as long as
another node could run it, even one that is busy now; where there is no other, a task for each slot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain
from typing import TypeVar

from manyhands_broker.core.job import Job
from manyhands_broker.core.kind import Kind, Needs
from manyhands_broker.core.limits import Limits
from manyhands_broker.core.node import Node
from manyhands_broker.core.pressure import MEMORY

K = TypeVar("K")

#: Kinds of tasks, and sets of labels, for which nodes are kept sorted; the oldest gives way and is
#: sorted anew if it is asked for again.
MAX_KINDS = 64


#: In which order nodes are asked: with an idle slot and not; each first those whose machine is theirs,
#: then those that share it with much else. Last, those with an idle slot and too little memory.
_IDLE, _IDLE_BUSY, _ROOM, _ROOM_BUSY, _SHORT = range(5)


class _Group:
    """The nodes with certain labels, by tier; and those that are not short of memory, busy or not.

    Dicts as ordered sets.
    """

    __slots__ = ("able", "tiers")

    def __init__(self) -> None:
        self.tiers: tuple[dict[Node, None], ...] = tuple({} for _ in range(5))
        self.able: dict[Node, None] = {}

    @property
    def idle(self) -> bool:
        """Whether some slot of theirs could start a task now."""
        return any(self.tiers[tier] for tier in (_IDLE, _IDLE_BUSY))

    def pick(self, *, idle: bool = False) -> Node | None:
        """The node whose turn it is; with `idle` only one with an idle slot."""
        tiers = self.tiers
        if tiers[_IDLE]:
            return _turn(tiers[_IDLE])
        for tier in (_IDLE_BUSY,) if idle else (_IDLE_BUSY, _ROOM, _ROOM_BUSY):
            if tiers[tier]:
                return _turn(tiers[tier])
        if tiers[_SHORT] and not self.able:
            return _turn(tiers[_SHORT])
        return None

    def move(self, node: Node, tier: int | None) -> None:
        """Put a node where it belongs now; `None` is nowhere."""
        if tier is not None and node in self.tiers[tier]:
            return
        for members in self.tiers:
            members.pop(node, None)
        if tier is not None:
            self.tiers[tier][node] = None


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
        self._fit: dict[Kind, _Group] = {}
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
        for group in (*self._groups.values(), *self._fit.values()):
            group.move(node, None)
            group.able.pop(node, None)
        for members in (self._idle, self._surplus):
            members.pop(node, None)

    def resize(self, node: Node, slots: int, window: int) -> None:
        """The node says how many slots it has and how many tasks it will hold."""
        self.slots += slots - node.slots
        node.slots = slots
        node.window = window
        self.update(node)

    def update(self, node: Node) -> None:
        """Sort the node anew after anything about it has changed but its labels and all it has."""
        takes = node.linked and not node.draining
        able = takes and node.pressure != MEMORY
        if able != node.able:
            node.able = able
            self.enlist(node)
        tier = self._tier(node) if takes and node.held < node.window else None
        idle = tier is not None and tier not in (_ROOM, _ROOM_BUSY)
        _put(self._idle, node, idle and able)
        _put(self._surplus, node, node.linked and node.held > node.slots)
        if tier != node.tier:
            node.tier = tier
            for needs, group in self._groups.items():
                group.move(node, tier if node.meets(needs) else None)
        for kind, group in self._fit.items():
            fits = idle and node.meets(kind.needs) and node.fits(kind.resources) > 0
            group.move(node, tier if fits else None)

    def _tier(self, node: Node) -> int | None:
        """Where a node belongs that takes more."""
        if node.held < node.slots:
            if not node.pressure:
                return _IDLE
            return _SHORT if node.pressure == MEMORY else _IDLE_BUSY
        if node.wary or node.load >= node.slots * self._limits.lookahead or not node.able:
            return None
        return _ROOM_BUSY if node.pressure else _ROOM

    def enlist(self, node: Node) -> None:
        """Sort the node anew after what it could ever run has changed. `update` has to follow."""
        for needs, group in self._groups.items():
            meets = node.meets(needs)
            _put(group.able, node, node.able and meets)
            group.move(node, node.tier if meets else None)
        for kind, group in self._fit.items():
            could = node.meets(kind.needs) and node.could(kind.resources)
            _put(group.able, node, node.able and could)

    def pick(self, job: Job) -> Node | None:
        """The node that takes the job's next tasks; the others' turn comes after it."""
        if job.resources:
            fitting = self._fit.get(job.kind)
            if fitting is None:
                fitting = self._begin(self._fit, job.kind)
            return fitting.pick()
        return self._group(job).pick(idle=bool(job.suspects))

    def spare(self, job: Job, without: Node | None) -> Node | None:
        """A node that could start a task of the job now, other than `without` and none in doubt."""
        if not job.resources:
            group = self._group(job)
        elif job.kind in self._fit:
            group = self._fit[job.kind]
        else:
            group = self._begin(self._fit, job.kind)
        free = chain(group.tiers[_IDLE], group.tiers[_IDLE_BUSY])
        return next((node for node in free if node is not without and not node.phi), None)

    def _group(self, job: Job) -> _Group:
        needs = job.kind.needs
        group = self._groups.get(needs)
        return self._begin(self._groups, needs) if group is None else group

    def _begin(self, table: dict[K, _Group], key: K) -> _Group:
        """Keep nodes sorted for something else as well."""
        if len(table) >= MAX_KINDS:
            del table[next(iter(table))]
        group = table[key] = _Group()
        for node in self:
            self.enlist(node)
            self.update(node)
        return group

    def amount(self, node: Node, job: Job, queued: int) -> int:
        """How many of the job's tasks `node` gets now; none if it has enough of such."""
        limits = self._limits
        idle = node.slots - node.held
        if job.resources:
            return max(1, min(idle, node.fits(job.resources)))
        if job.suspects or node.wary or node.pressure == MEMORY:
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
