"""A cluster on this machine: one broker process and some nodes, for scripts, demos and tests."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from manyhands import _html as html
from manyhands._local.embedded import check_slots, embedded_address
from manyhands._local.subprocesses import Subprocesses
from manyhands_shared.config import BrokerConfig, WorkerConfig
from manyhands_shared.transport import address

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node process of a local cluster."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Process id of the node; its pool children are its own."""
        return self.process.pid


class LocalCluster:
    """Run a broker and nodes on this machine, reachable from it alone.

    They find the modules that this process finds, and work in its current directory. They end with
    the cluster and with this process, however it ends.

    >>> with LocalCluster(nodes=2, slots=1) as cluster:
    ...     executor = Executor(address=cluster.address)

    Args:
        nodes: how many nodes to start.
        slots: tasks that each runs at once; `None` is one for each core this process may use.
        broker: further options of the broker, by the field names of `BrokerConfig`.
        worker: further options of every node, by the field names of `WorkerConfig`.

    Raises:
        ValueError: fewer than 0 nodes, fewer than 1 slot, or an unknown option.
        ManyhandsError: a process did not start; what it said is on stderr.
    """

    def __init__(
        self,
        nodes: int = 2,
        slots: int | None = 1,
        *,
        broker: Mapping[str, Any] = _NO_OPTIONS,
        worker: Mapping[str, Any] = _NO_OPTIONS,
    ) -> None:
        if nodes < 0:
            raise ValueError("a cluster cannot have fewer than 0 nodes")
        check_slots(slots)
        #: Where its broker listens.
        self.address = ""
        #: Where its dashboard is; empty without the broker's option `http`, ``127.0.0.1:0`` for one.
        self.dashboard_url = ""
        #: Its nodes, in the order in which they were started.
        self.nodes: list[LocalNode] = []
        #: The broker's process.
        self.broker: subprocess.Popen[bytes] | None = None
        self._slots = slots
        self._broker_options = _known(BrokerConfig, broker)
        self._worker_options = _known(WorkerConfig, worker)
        self._processes = Subprocesses()
        try:
            self._start(nodes)
        except BaseException:
            self.close(drain=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._processes.closed else self.address
        return f"<LocalCluster {state} nodes={len(self.nodes)}>"

    def _repr_html_(self) -> str:
        """Show where it is and which nodes it has, in a notebook."""
        rows: list[tuple[str, object]] = [
            ("broker", "closed" if self._processes.closed else self.address),
            ("dashboard", self.dashboard_url),
            ("slots of each node", self._slots),
        ]
        rows += [("node", f"{node.name}, process {node.pid}") for node in self.nodes]
        return html.card("manyhands cluster on this machine", rows)

    @property
    def pids(self) -> list[int]:
        """Return the process ids: the broker's, then the nodes'."""
        return self._processes.pids

    def add_node(self, name: str = "") -> LocalNode:
        """Start another node, which joins by itself. Without a `name` it gets one."""
        name = name or f"local-{self._processes.pid}-{len(self.nodes)}"
        own = {"broker": self.address, "name": name, "slots": self._slots or 0}
        config = {**self._worker_options, **own}
        node = LocalNode(
            name, self._processes.start("manyhands_worker.__main__", works=True, config_json=config)
        )
        self.nodes.append(node)
        return node

    def close(self, *, drain: bool = True) -> None:
        """End every process of the cluster, and wait until they are gone.

        With `drain`, nodes finish what they run, for half a minute at most. Without, they have a
        moment. Any thread may call it, and more than once.
        """
        self._processes.close(drain=drain)

    def _start(self, nodes: int) -> None:
        """Start everything; where the address is known beforehand, all at the same time."""
        wanted = self._broker_options.get("bind") or embedded_address()
        self.broker, ready = self._processes.start_server(
            "manyhands_broker.__main__",
            "broker",
            config_json={**self._broker_options, "bind": wanted},
        )
        known = address.is_unix(wanted) and "," not in wanted
        self.address = wanted if known else ready.wait()
        for _ in range(nodes):
            self.add_node()
        if known:
            ready.wait()
        self.dashboard_url = str(ready.facts.get("http", ""))


def _known(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in options:
        if name not in fields:
            raise ValueError(f"unknown option {name!r}; there are: {', '.join(sorted(fields))}")
    return dict(options)
