"""On which host a process is started.

Hosts with a node that can start processes are sorted by members for each core. Of equal ones the
pressure on their machine decides, then which was chosen least lately. So two idle hosts take turns. A
process takes no slot and waits for none: what it costs shows in the heartbeats, and tasks go elsewhere.

Choosing costs the same whatever the number of hosts. For each set of labels that was asked for there is
a heap. Whatever changes a host puts it into the heaps anew, and what stands there of old is skipped.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from manyhands_broker.core.model.machine import LOAD, MEMORY
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.requirements import Needs

#: Sets of labels that hosts are sorted for; the oldest gives way.
MAX_NEEDS = 64
_RANKS = {LOAD: 1, MEMORY: 2}
#: Stale entries of a heap, for each host, before it is made anew.
_STALE = 4


class Nodes(Protocol):
    """What the coordinator wants to know of the scheduler's nodes."""

    by_name: dict[str, Node]
    by_peer: dict[bytes, Node]

    @property
    def hosts(self) -> Collection[str]:
        """The hosts that nodes are on."""

    def take_changed_hosts(self) -> set[str] | None:
        """Return the hosts whose nodes have come, gone or changed since the last time; None: all."""

    def on_host(self, host_id: str) -> Collection[Node]:
        """Return the nodes on a host."""


class _Host:
    """A host as processes are placed on it."""

    __slots__ = ("capacity", "chosen", "cores", "id", "members", "name", "node", "rank", "version")

    def __init__(self, host_id: str) -> None:
        self.id = host_id
        #: What its machine is called, as far as a node says so.
        self.name = ""
        self.members = 0
        #: What of it the scheduler's nodes say: the first that can start processes, or `None`.
        self.node: Node | None = None
        self.cores = 1
        self.capacity = 0
        self.rank = 0
        self.chosen = 0
        self.version = 0

    @property
    def order(self) -> tuple[float, int, int]:
        return self.members / self.cores, self.rank, self.chosen

    @property
    def takes(self) -> bool:
        return self.node is not None and self.members < self.capacity


#: Order, host and version: between equal hosts the id decides.
_Heap = list[tuple[tuple[float, int, int], str, int]]


class Placing:
    """Chooses hosts.

    Args:
        nodes: the scheduler's.
        capacity: processes that a host takes whose node does not say how many.
    """

    def __init__(self, nodes: Nodes, capacity: int) -> None:
        self._nodes = nodes
        self._capacity = capacity
        self._hosts: dict[str, _Host] = {}
        self._heaps: dict[Needs, _Heap] = {}
        #: Hosts by what their machines are called.
        self._names: dict[str, str] = {}
        self._turn = 0

    def count(self, host_id: str, change: int) -> None:
        """Count members that are placed on a host, or are there no more."""
        host = self._hosts.setdefault(host_id, _Host(host_id))
        host.members += change
        self._sort(host)

    def members_on(self, host_id: str) -> int:
        """Return how many members are placed on a host."""
        host = self._hosts.get(host_id)
        return 0 if host is None else host.members

    def node_on(self, host_id: str) -> Node | None:
        """Return the node that starts the agent of a host; `None` if there is none."""
        found = self._nodes.on_host(host_id)
        return next((node for node in found if _starts_agents(node)), None)

    def choose(self, options: Mapping[str, Any]) -> tuple[str, str]:
        """Return the id of the host on which to start a process, or why there is none.

        Args:
            options: of the start: `near`, `bound`, `node`, `beside`, `needs`.
        """
        self._refresh()
        needs = frozenset(str(label) for label in options.get("needs", ()))
        near, named = options.get("near", ""), options.get("node", "")
        beside = self._hosts.get(str(options.get("beside", "")))
        if near:
            return self._certain(str(near), needs, _bound(options))
        if named:
            host_id = self._named(str(named))
            if not host_id:
                return "", f"no node or host of the cluster is called {named!s:.80}"
            return self._certain(host_id, needs, f"it is to run on {named!s:.80}")
        if beside and beside.takes and beside.node is not None and beside.node.meets(needs):
            return beside.id, ""
        host = self._least(needs)
        if host is None:
            return "", self._why_none(needs)
        self._turn += 1
        host.chosen = self._turn
        return host.id, ""

    def _certain(self, host_id: str, needs: Needs, why: str) -> tuple[str, str]:
        """Return the one host that may be, or why it cannot be."""
        host = self._hosts.get(host_id)
        if host is None or host.node is None or not host.node.meets(needs):
            remedy = "start one with: manyhands worker --broker ADDRESS"
            return "", f"{why}, but no node of the cluster that can start it is there; {remedy}"
        if not host.takes:
            return "", f"{why}, and {host.members} processes are there, the most it takes"
        return host_id, ""

    def _named(self, name: str) -> str:
        node = self._nodes.by_name.get(name)
        if node is not None:
            return node.host_id
        return self._names.get(name, "")

    def _least(self, needs: Needs) -> _Host | None:
        heap = self._heaps.get(needs)
        if heap is None:
            heap = self._begin(needs)
        while heap:
            _, host_id, version = heap[0]
            host = self._hosts.get(host_id)
            if host is not None and host.version == version and host.takes:
                return host
            heapq.heappop(heap)
        return None

    def _begin(self, needs: Needs) -> _Heap:
        """Sort the hosts for a set of labels."""
        if len(self._heaps) >= MAX_NEEDS and needs not in self._heaps:
            del self._heaps[next(iter(self._heaps))]
        found = [
            (host.order, host.id, host.version)
            for host in self._hosts.values()
            if host.takes and host.node is not None and host.node.meets(needs)
        ]
        heapq.heapify(found)
        self._heaps[needs] = found
        return found

    def _sort(self, host: _Host) -> None:
        """Put a host that has changed into the heaps anew."""
        host.version += 1
        if not host.takes or host.node is None:
            if host.node is None and not host.members:
                self._hosts.pop(host.id, None)
            return
        for needs, heap in self._heaps.items():
            if host.node.meets(needs):
                heapq.heappush(heap, (host.order, host.id, host.version))
        for needs in [n for n, h in self._heaps.items() if len(h) > _STALE * len(self._hosts) + 64]:
            self._begin(needs)

    def _refresh(self) -> None:
        """Take over what has changed about the scheduler's nodes."""
        changed = self._nodes.take_changed_hosts()
        if changed is None:
            changed = {*self._hosts, *self._nodes.hosts}
        for host_id in changed:
            host = self._hosts.setdefault(host_id, _Host(host_id))
            nodes = [node for node in self._nodes.on_host(host_id) if _starts_agents(node)]
            host.node = nodes[0] if nodes else None
            self._name(host)
            if host.node is not None:
                host.cores = max(max(1, node.machine.cores) for node in nodes)
                said = host.node.info.get("processes")
                host.capacity = said if type(said) is int and said >= 0 else self._capacity
                host.rank = _RANKS.get(host.node.pressure, 0)
            self._sort(host)

    def _name(self, host: _Host) -> None:
        """Let a host be found by the name of its machine."""
        name = "" if host.node is None else str(host.node.info.get("host", ""))
        if name != host.name:
            if self._names.get(host.name) == host.id:
                del self._names[host.name]
            host.name = name
            if name:
                self._names[name] = host.id

    def _why_none(self, needs: Needs) -> str:
        able = [host for host in self._hosts.values() if host.node is not None]
        if not able:
            return "the cluster has no node that starts processes; start one with: manyhands worker"
        if not any(host.node is not None and host.node.meets(needs) for host in able):
            wanted = ", ".join(sorted(needs))
            return f"no node of the cluster that starts processes has the labels {wanted}"
        return "every host of the cluster has as many processes as it takes; add hosts"


def _starts_agents(node: Node) -> bool:
    return node.linked and not node.draining and bool(node.info.get("agent"))


def _bound(options: Mapping[str, Any]) -> str:
    """Return in words why a process must run on its starter's host."""
    bound = options.get("bound", "")
    return f"it holds {bound!s:.200} and must run on this host" if bound else "it must run here"
