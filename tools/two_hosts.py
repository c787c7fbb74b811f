"""A broker and two nodes on this machine, which take each other for remote."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from manyhands import Client

_JOIN_SECONDS = 30.0


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


def _wait_for_nodes(address: str) -> None:

    until = time.monotonic() + _JOIN_SECONDS
    with Client(address) as client:
        while len(client.query("nodes")) < 2:
            if time.monotonic() > until:
                raise SystemExit("the two nodes do not join: is this machine very busy?")
            time.sleep(0.05)
