"""Programs of several processes: two hosts on one machine, and scripts that run as roots."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import tty
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.cluster.bench import Bench, joined
from harness.cluster.parts import Broker
from harness.cluster.relay import Relay
from harness.processes import import_path, without_waits

#: How long a program may take.
PROGRAM_SECONDS = 110.0


class TwoHosts:
    """A broker that outlives its process, a node on the root's host, and one on another.

    Args:
        bench: starts and ends them.
        relayed: whether the other host reaches the broker through `relay`, which can part them.
        broker: options of the broker's.
    """

    def __init__(self, bench: Bench, *, relayed: bool = False, **broker: Any) -> None:
        self.folder = bench.folder
        self.broker: Broker = bench.broker(
            coordination_dir=str(bench.folder / "coordination"), **broker
        )
        bench.node(self.broker.address, "a", slots=2)
        other = ("env", "MANYHANDS_TEST_HOST=b")
        there = self.broker.address
        if relayed:
            self.relay = bench.stack.enter_context(Relay(self.broker.port))
            there = self.relay.address
        bench.node(there, "b", slots=2, prefix=other)
        joined(bench.client(self.broker.address), 2)

    def start(self, source: str, *arguments: object) -> subprocess.Popen[str]:
        """Start a script as the root of a program."""
        script = self.folder / "program.py"
        script.write_text(source)
        return start_root([str(script), *map(str, arguments)], self.broker.address)

    def run(self, source: str, *arguments: object) -> str:
        """Run a script as the root of a program to its end; return what it printed."""
        return finished(self.start(source, *arguments))


def start_root(
    command: Sequence[str], address: str | None, *, stdout: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a script; without an address it has a cluster of its own."""
    environment = {**os.environ, **import_path()}
    # Without buffers a line and its end are two writes: others come between.
    environment.pop("PYTHONUNBUFFERED", None)
    if address is not None:
        environment["MANYHANDS_BROKER"] = address
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finished(root: subprocess.Popen[str]) -> str:
    """Wait for a program's end, in which nothing failed; return what it printed."""
    try:
        out, err = root.communicate(timeout=PROGRAM_SECONDS)
    finally:
        root.kill()
        root.wait()
    assert (without_waits(err), root.returncode) == ("", 0), f"{out}\n{err}"
    return out


def shown(command: Sequence[str], address: str | None) -> str:
    """Run a script as the root of a program to its end; return what a terminal shows of it.

    There each line of its own comes out when it is printed, as those of its processes do.
    """
    screen, terminal = pty.openpty()
    try:
        try:
            tty.setraw(terminal)
            root = start_root(command, address, stdout=terminal)
        finally:
            os.close(terminal)
        with ThreadPoolExecutor(1) as reader:
            text = reader.submit(_read_all, screen)
            finished(root)
            return text.result().decode()
    finally:
        os.close(screen)


def _read_all(screen: int) -> bytes:
    """Read until no process has the terminal any more."""
    parts = []
    # Linux says so with an error.
    with contextlib.suppress(OSError):
        while part := os.read(screen, 1 << 16):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture
def two_hosts(bench: Bench) -> TwoHosts:
    """Two hosts and a broker, with a lease that a busy machine does not let run out."""
    return TwoHosts(bench, lease=100.0)
