"""Which node, and how much: nodes by what they can take, and the size of what they get.

A node with an idle slot comes before one that is merely not full. How much a node gets follows from
how long the function's tasks take: a slot's share of waiting work is `Limits.horizon` seconds. So a busy
system sends thousands of tiny tasks in one message, and a slow task never waits behind another that is
slow. All choices cost the same whatever the number of nodes.

Nodes may differ in what they can run at all (their labels: another Python, no pickles). They are
sorted for each set of labels that jobs have asked for, which is one where all are alike. What no node
could ever run is known, and costs nothing until another node comes in.

A node that could not make an environment lately gets no task that requires it as long as another node
may have it. If none may, it gets them all the same, and fails them with the reason.

They differ in how they are, too: heartbeats tell of machines that others keep busy, and of those that
are short of memory (`machine`). The former come after the others. The latter get nothing as long as
another node could run it, even one that is busy now. Where there is no other, they get a task for each
slot.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import chain, islice
from typing import TypeVar

from manyhands_broker.core.limits import Limits
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.machine import MEMORY
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.requirements import Kind, Needs
from manyhands_broker.core.model.task_state import TaskState

K = TypeVar("K")

#: Kinds of tasks, and sets of labels, that nodes are sorted for. The oldest gives way, and is sorted
#: anew if a job asks for it again.
MAX_KINDS = 128
#: How many may give way in one drain. For what is asked for beyond that, a few nodes are looked at.
MAX_RENEWALS = 4
_CANDIDATES = 64
#: Hosts that are noted one by one. Behind more changes than that, the coordinator looks at all.
MAX_CHANGED_HOSTS = 4_096


#: The order in which nodes are asked: those with an idle slot, then those with room. Of each, first
#: nodes whose machine is theirs, then nodes that share it with much else. Last come nodes with an idle
#: slot and too little memory, or without the environment.
_IDLE, _IDLE_BUSY, _ROOM, _ROOM_BUSY, _SHORT, _FAILING = range(6)
#: That many nodes fail to make an environment before it is to blame, unless a task ran in one.
_MOST_FAILING = 3


class _Group:
    """The nodes with certain labels, by tier; and of all, busy or not, those of some kind.

    `failing` could not make the environment lately, and `fit` are the others. `able` are those of `fit`
    that are not short of memory. Dicts as ordered sets.
    """

    __slots__ = ("able", "failing", "fit", "tiers")

    def __init__(self) -> None:
        self.tiers: tuple[dict[Node, None], ...] = tuple({} for _ in range(6))
        self.able: dict[Node, None] = {}
        self.failing: dict[Node, None] = {}
        self.fit: dict[Node, None] = {}

    @property
    def idle(self) -> bool:
        """Whether some slot of theirs could start a task now."""
        return any(self.tiers[tier] for tier in (_IDLE, _IDLE_BUSY))

    def pick(self, *, idle: bool = False) -> Node | None:
        """Return the node whose turn it is; with `idle` only one with an idle slot."""
        tiers = self.tiers
        if tiers[_IDLE]:
            return _turn(tiers[_IDLE])
        for tier in (_IDLE_BUSY,) if idle else (_IDLE_BUSY, _ROOM, _ROOM_BUSY):
            if tiers[tier]:
                return _turn(tiers[tier])
        if tiers[_SHORT] and not self.able:
            return _turn(tiers[_SHORT])
        if tiers[_FAILING] and not self.fit:
            return _turn(tiers[_FAILING])
        return None

    def sort(self, node: Node, needs: Needs, *, suited: bool) -> None:
        """Note of what kind a node is; `suited`: it could ever run the tasks of this group."""
        fails = node.fails(needs)
        _put(self.able, node, suited and node.able and not fails)
        _put(self.failing, node, suited and fails)
        _put(self.fit, node, suited and not fails)

    def leave(self, node: Node) -> None:
        """Take a node out."""
        self.move(node, None)
        for members in (self.able, self.failing, self.fit):
            members.pop(node, None)

    def move(self, node: Node, tier: int | None) -> None:
        """Put a node where it belongs now; `None` is nowhere."""
        if tier is not None and node in self.tiers[tier]:
            return
        for members in self.tiers:
            if node in members:
                del members[node]
                break
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
        #: Nodes that make environments.
        self._makers: dict[Node, None] = {}
        #: Nodes by the labels that have been asked for; and those that can start a task of a kind now,
        #: for each kind with resources.
        self._groups: dict[Needs, _Group] = {}
        self._fit: dict[Kind, _Group] = {}
        #: Kinds that no node could ever run; and how many groups gave way in this drain.
        self.unsatisfiable: set[Kind] = set()
        self.renewals = 0
        #: Nodes by the host whose memory they can borrow.
        self._hosts: dict[str, dict[Node, None]] = {}
        # Hosts whose nodes have come, gone or changed, until the coordinator has taken note; None: all.
        self._changed_hosts: set[str] | None = None
        self.slots = 0

    def __iter__(self) -> Iterator[Node]:
        return iter(self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def free_row(self) -> int:
        """Return a row of the last-seen table that no node has."""
        return self._free_rows.pop() if self._free_rows else len(self.by_row)

    def add(self, node: Node) -> None:
        """Take a node in."""
        self.by_peer[node.peer] = node
        self.by_name[node.name] = node
        self.by_row[node.row] = node
        self.slots += node.slots
        self.update(node)

    def remove(self, node: Node) -> None:
        """Take out a node that is gone; nothing is given to it again."""
        self.by_peer.pop(node.peer, None)
        del self.by_name[node.name]
        del self.by_row[node.row]
        self._free_rows.append(node.row)
        self.slots -= node.slots
        # What still refers to it must not take it for one that takes tasks.
        node.able = False
        self.host_changed(node.host_id)
        self._hosts.get(node.host_id, {}).pop(node, None)
        if not self._hosts.get(node.host_id, True):
            del self._hosts[node.host_id]
        for group in (*self._groups.values(), *self._fit.values()):
            group.leave(node)
        for members in (self._idle, self._surplus, self._makers):
            members.pop(node, None)

    def host_changed(self, host_id: str) -> None:
        """Note it for the coordinator. Where that never asks, nothing grows with hosts that are gone."""
        changed = self._changed_hosts
        if changed is not None:
            changed.add(host_id)
            if len(changed) > MAX_CHANGED_HOSTS:
                self._changed_hosts = None

    def take_changed_hosts(self) -> set[str] | None:
        """Return the hosts whose nodes have come, gone or changed since the last time; None: all."""
        changed, self._changed_hosts = self._changed_hosts, set()
        return changed

    @property
    def hosts(self) -> Collection[str]:
        """The hosts that nodes are on."""
        return self._hosts.keys()

    def resize(self, node: Node, slots: int, window: int) -> None:
        """Take over how many slots a node has and how many tasks it will take."""
        self.slots += slots - node.slots
        node.slots = slots
        node.window = window
        self.update(node)

    def update(self, node: Node, *, capabilities: bool = False) -> None:
        """Sort the node anew after anything about it has changed.

        `capabilities`: its labels, its host, or all that it has, have changed too.
        """
        if capabilities:
            if node.host_id:
                self._hosts.setdefault(node.host_id, {})[node] = None
            self.unsatisfiable = {kind for kind in self.unsatisfiable if not node.suits(kind)}
            _put(self._makers, node, bool(node.making))
            self._sort(node)
            self.host_changed(node.host_id)
        takes = node.linked and not node.draining
        able = takes and node.pressure != MEMORY
        if able != node.able:
            node.able = able
            self._sort(node)
            self.host_changed(node.host_id)
        active, slots = node.active, node.slots
        tier = None
        if takes and active < node.window:
            pressure = node.pressure
            if active < slots:
                tier = _SHORT if not able else _IDLE_BUSY if pressure else _IDLE
            elif (
                able
                and not (node.suspects or node.stalled)
                and node.load < slots * self._limits.lookahead
            ):
                tier = _ROOM_BUSY if pressure else _ROOM
        if tier != node.tier:
            node.tier = tier
            _put(self._idle, node, tier in (_IDLE, _IDLE_BUSY))
            for needs, group in self._groups.items():
                group.move(node, _tier(node, needs))
        if active > slots and node.linked:
            self._surplus[node] = None
        elif node in self._surplus:
            del self._surplus[node]
        for kind, group in self._fit.items():
            idle = tier is not None and active < slots
            fits = idle and node.fits(kind.resources) > 0
            group.move(node, _tier(node, kind.needs) if fits else None)

    def _sort(self, node: Node) -> None:
        for needs, group in self._groups.items():
            group.sort(node, needs, suited=node.meets(needs))
            group.move(node, _tier(node, needs))
        for kind, group in self._fit.items():
            group.sort(node, kind.needs, suited=node.suits(kind))

    def pick(self, job: Job) -> Node | None:
        """Return the node that takes the job's next tasks; the others' turn comes after it."""
        group = self._group(job)
        if group is None:
            return self._look(job)
        return group.pick(idle=bool(job.suspects) and not job.resources)

    def _look(self, job: Job) -> Node | None:
        """Return a node that could start a task of the job now, of a few that are idle."""
        for node in islice(self._idle, _CANDIDATES):
            if node.suits(job.kind) and node.takes(job.kind.needs) and node.fits(job.resources):
                return node
        return None

    def accepts(self, node: Node, job: Job) -> bool:
        """Return whether a node may be given tasks of a job now, even to wait there for a slot."""
        if not node.able or node.suspects or node.active >= node.window or job.suspects:
            return False
        if node.fails(job.kind.needs):
            return False
        if node.stalled and node.active >= node.slots:
            return False
        if job.resources:
            fits = node.fits(job.resources) > 0
            return node.active < node.slots and fits and node.takes(job.kind.needs)
        return node.takes(job.kind.needs)

    def on_host(self, host_id: str) -> Collection[Node]:
        """Return the nodes that can borrow the memory of processes on a host."""
        return self._hosts.get(host_id, ()) if host_id else ()

    def spare(self, job: Job, without: Node | None) -> Node | None:
        """Return a node other than `without` that could start a task of the job now; none in doubt."""
        group = self._group(job)
        if group is None:
            return None
        free = chain(group.tiers[_IDLE], group.tiers[_IDLE_BUSY])
        return next((node for node in free if node is not without and not node.phi), None)

    def _group(self, job: Job) -> _Group | None:
        """Return the nodes sorted for a job; `None` if there is none for it, or too many are wanted."""
        kind = job.kind
        if not job.resources:
            return self._groups.get(kind.needs) or self._begin(self._groups, kind.needs, kind)
        return self._fit.get(kind) or self._begin(self._fit, kind, kind)

    def _begin(self, table: dict[K, _Group], key: K, kind: Kind) -> _Group | None:
        """Sort nodes for something else as well; return them, or `None` if there are none."""
        if kind in self.unsatisfiable:
            return None
        if not any(node.suits(kind) for node in self):
            self.unsatisfiable.add(kind)
            return None
        if len(table) >= MAX_KINDS:
            if self.renewals >= MAX_RENEWALS:
                return None
            self.renewals += 1
            del table[next(iter(table))]
        group = table[key] = _Group()
        for node in self:
            if not node.suits(kind):
                continue
            group.sort(node, kind.needs, suited=True)
            idle = node.active < node.slots and node.fits(kind.resources) > 0
            group.move(node, _tier(node, kind.needs) if idle or not kind.resources else None)
        return group

    def amount(self, node: Node, job: Job, queued: int) -> int:
        """Return how many of the job's tasks `node` gets now; none if it has enough of such."""
        limits = self._limits
        idle = node.slots - node.active
        if job.resources:
            return max(1, min(idle, node.fits(job.resources)))
        if job.suspects or node.suspects or node.stalled or node.pressure == MEMORY:
            return max(1, idle)
        each = max(job.expected(limits.unmeasured), 1e-7)
        target = limits.horizon
        if job.estimate is None:
            # Not so much that it would matter if the guess is wrong.
            if job.guess is not None:
                target = limits.grain
        else:
            target = max(target, min(2 * each, limits.lookahead))
        by_time = math.ceil((node.slots * target - node.load) / each)
        count = min(max(by_time, idle), node.window - node.active, limits.batch_tasks)
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

    @property
    def crowded(self) -> bool:
        """Whether tasks wait for slots or environments at some node."""
        return bool(self._surplus or self._makers)

    def stall(self, now: float) -> list[Node]:
        """Note and return the nodes all of whose slots are in long tasks, and where others wait.

        Some of these could run elsewhere, or are of a job that is on hold.
        """
        found = [
            node
            for node in self._surplus
            if node.active > node.slots
            and not node.recalling
            and now >= node.recall_at
            and now - node.last_result >= self._limits.stalled_after
            and any(job.paused or self._runs_elsewhere(job, node) for job in node.loads)
        ]
        for node in found:
            node.stalled = True
            self.update(node)
        return found

    def waiting_for_environments(self, now: float) -> Iterator[tuple[Node, int]]:
        """Yield nodes with tasks that wait for an environment, and how many could run elsewhere now."""
        for node in self._makers:
            if node.recalling or now < node.recall_at:
                continue
            count = sum(
                int(load[0])
                for job, load in node.loads.items()
                if not node.making.isdisjoint(job.kind.needs) and self._has_made(job)
            )
            if count:
                yield node, count

    def _has_made(self, job: Job) -> bool:
        """Whether a node with an idle slot has the job's environment; none in doubt."""
        group = self._group(job)
        if group is None:
            return False
        idle = chain(group.tiers[_IDLE], group.tiers[_IDLE_BUSY])
        return any(not node.made.isdisjoint(job.kind.needs) for node in islice(idle, _CANDIDATES))

    def may_have_environment(self, job: Job) -> bool:
        """Whether another node may have the job's environment, though some could not make it."""
        group = self._group(job)
        if group is None or not group.fit:
            return False
        return len(group.failing) < _MOST_FAILING or bool(job.counts[TaskState.DONE])

    def _runs_elsewhere(self, job: Job, node: Node) -> bool:
        """Whether another node could run tasks of the job, even one that is busy now."""
        group = self._group(job)
        return group is not None and len(group.able) > (node in group.able)

    def overloaded(self, now: float) -> Iterator[Node]:
        """Yield nodes with tasks that wait for a slot there and would not get one soon."""
        for node in self._surplus:
            if node.active <= node.slots or not node.loads:
                # It was sorted before tasks of it ended without its doing.
                continue
            # Where all that waits is better off near its data, that long is soon.
            soon = max(self._limits.recall_after, min(job.transfer_seconds for job in node.loads))
            slow = node.load > node.slots * soon
            silent = now - node.last_result > soon
            if node.recalling or now < node.recall_at or not (slow or silent):
                continue
            # Some of what it has must be what a node with an idle slot can run.
            if any(group.idle for job in node.loads if (group := self._group(job))):
                yield node


def _tier(node: Node, needs: Needs) -> int | None:
    """Return the tier of a node among those with certain labels."""
    if node.tier is None or not node.takes(needs):
        return None
    if not node.fails(needs):
        return node.tier
    return _FAILING if node.active < node.slots else None


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
