"""A cluster on this machine: one broker process and some nodes, for scripts, demos and tests."""

from __future__ import annotations

import atexit
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Self

from manyhands_shared import address
from manyhands_shared.config import BrokerConfig, WorkerConfig
from manyhands_shared.errors import ManyhandsError

_START_SECONDS = 30.0
#: How long a node may take to finish what it runs, and anybody to leave, before SIGKILL.
_DRAIN_SECONDS = 35.0
_MOMENT_SECONDS = 0.2
_LEAVE_SECONDS = 5.0

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

_clusters: weakref.WeakSet[LocalCluster] = weakref.WeakSet()


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
    """A broker and nodes on this machine, reachable from it alone.

    They find the modules that this process finds, and work in its current directory. They leave when
    the cluster is closed and when this process ends, however it ends.

    >>> with LocalCluster(nodes=2, slots=1) as cluster:
    ...     executor = Executor(address=cluster.address)

    Args:
        nodes: how many nodes to start.
        slots: tasks that each runs at once; `None` is one for each core this process may use.
        broker: further options of the broker, by the field names of `BrokerConfig`.
        worker: further options of every node, by the field names of `WorkerConfig`.
        together: whether the broker and the first node are one process, which spares lone tasks a
            quarter of their time, and 20 MB. They then end together too.

    Raises:
        ValueError: fewer than 0 nodes, or none to be together; fewer than 1 slot; an unknown option.
        ManyhandsError: a process did not start; what it said is on stderr.
    """

    def __init__(
        self,
        nodes: int = 2,
        slots: int | None = 1,
        *,
        broker: Mapping[str, Any] = _NO_OPTIONS,
        worker: Mapping[str, Any] = _NO_OPTIONS,
        together: bool = False,
    ) -> None:
        if nodes < 0:
            raise ValueError("a cluster cannot have fewer than 0 nodes")
        if together and not nodes:
            raise ValueError("together with what? nodes is 0")
        if slots is not None and slots < 1:
            raise ValueError("a node needs at least 1 slot")
        #: Where its broker listens.
        self.address = ""
        #: Its nodes, in the order in which they were started.
        self.nodes: list[LocalNode] = []
        #: The broker's process.
        self.broker: subprocess.Popen[bytes] | None = None
        self._slots = slots
        self._broker_options = _known(BrokerConfig, broker)
        self._worker_options = _known(WorkerConfig, worker)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        self._lifeline, self._lifeline_in = os.pipe()
        _clusters.add(self)
        try:
            self._start(nodes, together)
        except BaseException:
            self.close(drain=False)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self.address
        return f"<LocalCluster {state} nodes={len(self.nodes)}>"

    @property
    def pids(self) -> list[int]:
        """Process ids: the broker's, then the nodes'."""
        return [process.pid for process in self._processes()]

    def add_node(self, name: str = "") -> LocalNode:
        """Start another node; it joins by itself. Without a `name` it gets one."""
        config = self._node_config(name)
        options = ["--config-json", json.dumps(config)]
        return self._enlist(config, self._spawn("manyhands_worker", options))

    def _node_config(self, name: str = "") -> dict[str, Any]:
        name = name or f"local-{self._pid}-{len(self.nodes)}"
        own = {"broker": self.address, "name": name, "slots": self._slots or 0}
        return {**self._worker_options, **own}

    def _enlist(self, config: dict[str, Any], process: subprocess.Popen[bytes]) -> LocalNode:
        node = LocalNode(config["name"], process)
        self.nodes.append(node)
        return node

    def close(self, *, drain: bool = True) -> None:
        """End every process of the cluster, and wait until they are gone.

        With `drain`, nodes finish what they run, for half a minute at most; without, they have a
        moment. May be called again, and from any thread.
        """
        if self._pid != os.getpid():
            return  # a fork: the processes are the parent's
        with self._lock:
            if self._closed:
                return
            # A node with nothing to do drains at once.
            patience = _DRAIN_SECONDS if drain else _MOMENT_SECONDS
            _end([node.process for node in self.nodes], patience)
            self._closed = True
            # End of file on the lifeline tells whoever is left to go at once.
            os.close(self._lifeline_in)
            os.close(self._lifeline)
            _wait(self._processes(), _LEAVE_SECONDS)
            for process in self._processes():
                process.kill()
                process.wait()

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        brokers = [self.broker] if self.broker is not None else []
        return list(dict.fromkeys(brokers + [node.process for node in self.nodes]))

    def _start(self, nodes: int, together: bool) -> None:
        """Start everything; where the address is known beforehand, all at the same time."""
        wanted = self._broker_options.get("bind") or _own_address()
        ready, ready_in = os.pipe()
        with os.fdopen(ready, "rb") as pipe:
            try:
                self._start_broker({**self._broker_options, "bind": wanted}, ready_in, together)
            finally:
                os.close(ready_in)
            known = address.is_unix(wanted) and "," not in wanted
            self.address = wanted if known else self._await_broker(pipe)
            for _ in range(nodes - len(self.nodes)):
                self.add_node()
            if known:
                self._await_broker(pipe)

    def _start_broker(self, config: dict[str, Any], ready_fd: int, together: bool) -> None:
        module, options = "manyhands_broker", ["--config-json", json.dumps(config)]
        if not together:
            self.broker = self._spawn(module, options, ready_fd)
            return
        node = {**self._node_config(), "broker": _from_here(config["bind"])}
        module, options = "manyhands.together", ["--broker-json", json.dumps(config)]
        options += ["--worker-json", json.dumps(node)]
        self.broker = self._spawn(module, options, ready_fd)
        self._enlist(node, self.broker)

    def _await_broker(self, ready: BinaryIO) -> str:
        """The address at which the broker listens, once it does."""
        assert self.broker is not None
        if not select.select([ready], [], [], _START_SECONDS)[0]:
            raise ManyhandsError(f"the broker did not start within {_START_SECONDS:.0f} s")
        line = ready.readline()
        if not line:
            code = self.broker.wait(_LEAVE_SECONDS)
            raise ManyhandsError(f"the broker did not start (exit code {code}); see above why")
        return str(json.loads(line)["address"])

    def _spawn(
        self, module: str, options: list[str], ready_fd: int | None = None
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", module, *options]
        command += ["--parent-pid", str(self._pid), "--lifeline", str(self._lifeline)]
        inherited = [self._lifeline]
        if ready_fd is not None:
            command += ["--ready-fd", str(ready_fd)]
            inherited.append(ready_fd)
        # A service manager hears of this process, not of those that it starts.
        environment = {name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"}
        # What this process can import, its processes can, whatever was done to sys.path.
        environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=inherited,
            process_group=0,  # Ctrl-C in the terminal is for us; they leave when we say so
        )


def _from_here(address: str) -> str:
    """How this machine reaches what listens at `address`, which may be every address that it has."""
    for everywhere, here in (("//0.0.0.0:", "//127.0.0.1:"), ("//[::]:", "//[::1]:")):
        address = address.replace(everywhere, here)
    return address


def _own_address() -> str:
    """Where a broker for this machine alone listens.

    A Unix socket spares every message the TCP stack twice. Linux has them without a file, which nobody
    has to delete; they are reached from where 127.0.0.1 is.
    """
    unix = f"unix://@manyhands-{os.getpid()}-{secrets.token_hex(8)}"
    return unix if sys.platform == "linux" else "tcp://127.0.0.1:0"


def _end(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    _wait(processes, seconds)


def _wait(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    """Wait until all have ended, `seconds` at most in all."""
    deadline = time.monotonic() + seconds
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))


def _close_all() -> None:
    for cluster in list(_clusters):
        cluster.close(drain=False)


def _let_go_all() -> None:
    """In a forked child: only the parent may hold the lifelines open."""
    for cluster in list(_clusters):
        if not cluster._closed:
            with suppress(OSError):
                os.close(cluster._lifeline_in)


atexit.register(_close_all)
os.register_at_fork(after_in_child=_let_go_all)


def _known(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in options:
        if name not in fields:
            raise ValueError(f"unknown option {name!r}; there are: {', '.join(sorted(fields))}")
    return dict(options)
