"""A broker and two nodes on two hosts: network namespaces, or nodes that take each other for remote."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands import Client, LocalCluster
from manyhands.testbed import Host, Network, unavailable

_JOIN_SECONDS = 30.0


#: In a namespace every port is free.
_PORT = 7711


@contextmanager
def namespaces(slots: int) -> Iterator[tuple[Host, dict[str, str]]]:
    """Start them in network namespaces, with a key; yield the first host, and variables for programs.

    Args:
        slots: of each node. The broker is on the first host, with a node. The other is on the second.

    Raises:
        ManyhandsError: this machine cannot have them.
        SystemExit: the nodes do not join.
    """
    with tempfile.TemporaryDirectory() as folder, Network(2) as network, ExitStack() as stack:
        key_file = str(Path(folder) / "cluster.key")
        home = network.hosts[0]
        broker = {
            "bind": f"tcp://{home.address}:{_PORT}",
            "key_file": key_file,
            "create_key": True,
            "coordination_dir": str(Path(folder) / "log"),
        }
        with home.inside():
            cluster = LocalCluster(0, slots, broker=broker, worker={"key_file": key_file})
            stack.callback(cluster.close, drain=False)
        for host in network.hosts:
            with host.inside():
                cluster.add_node(host.name)
        with home.inside():
            _wait_for_nodes(cluster.address, key_file)
        yield home, {"MANYHANDS_BROKER": cluster.address, "MANYHANDS_KEY_FILE": key_file}


@dataclass(frozen=True, slots=True)
class Place:
    """Where programs run."""

    #: For people.
    name: str
    #: What they find in their environment.
    variables: dict[str, str]
    #: The host on which they are started; None for this one.
    host: Host | None = None

    def inside(self) -> AbstractContextManager[None]:
        """Put the calling thread there."""
        return nullcontext() if self.host is None else self.host.inside()


@contextmanager
def best_two_hosts(slots: int) -> Iterator[Place]:
    """Start them in network namespaces where this machine can have them, else as two nodes.

    Raises:
        SystemExit: the nodes do not join.
    """
    with ExitStack() as stack:
        if unavailable():
            address = stack.enter_context(two_hosts(slots))
            yield Place("two nodes", {"MANYHANDS_BROKER": address})
        else:
            host, variables = stack.enter_context(namespaces(slots))
            yield Place("two network namespaces", variables, host)


@contextmanager
def two_hosts(slots: int) -> Iterator[str]:
    """Start them, with `slots` for each node; yield the broker's address.

    Raises:
        SystemExit: the nodes do not join.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        address = f"tcp://127.0.0.1:{free_port()}"
        config = {"bind": address, "coordination_dir": str(Path(folder) / "log"), "beat_port": 0}
        _spawn(stack, "manyhands_broker", config)
        for name, host in (("a", ""), ("b", "b")):
            node = {"broker": address, "name": name, "slots": slots}
            _spawn(stack, "manyhands_worker", node, MANYHANDS_TEST_HOST=host)
        _wait_for_nodes(address)
        yield address


def free_port() -> int:
    """Return a TCP port of this host that nothing listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _spawn(stack: ExitStack, module: str, config: dict[str, Any], **environment: str) -> None:
    command = [sys.executable, "-m", module, "--config-json", json.dumps(config)]
    process = subprocess.Popen(
        [*command, "--parent-pid", str(os.getpid())],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)


def _wait_for_nodes(address: str, key_file: str | None = None) -> None:
    with Client(address, key_file=key_file) as client:
        try:
            client.wait_for_nodes(2, _JOIN_SECONDS)
        except TimeoutError as error:
            raise SystemExit(str(error)) from None
