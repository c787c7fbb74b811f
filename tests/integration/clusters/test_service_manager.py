"""Broker and node tell a service manager how they are, over a socket as systemd has it."""

from __future__ import annotations

import json
import signal
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import start
from harness.processes import free_port
from manyhands_shared.sd_notify import Notifier


class Manager:
    """The socket that a service manager hands to its services."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(100)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.environment = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1500000"}

    def until(self, wanted: str) -> list[str]:
        """Everything said up to a line that begins with `wanted`."""
        lines: list[str] = []
        deadline = time.monotonic() + 100
        while not any(line.startswith(wanted) for line in lines):
            assert time.monotonic() < deadline, f"no {wanted}, but {lines}"
            lines += self.socket.recv(4096).decode().splitlines()
        return lines


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        made = Manager(str(Path(folder) / "notify"))
        yield made
        made.socket.close()


def test_a_broker_is_ready_when_it_listens_and_says_that_it_lives(manager: Manager) -> None:
    broker = start("broker", "--bind", "tcp://127.0.0.1:0", env=manager.environment)
    try:
        said = manager.until("STATUS=listening on tcp://127.0.0.1:")
        assert said[0] == "READY=1"
        for _ in range(2):
            assert manager.until("WATCHDOG") == ["WATCHDOG=1"]
        broker.send_signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        broker.communicate(timeout=120)
    finally:
        broker.kill()
        broker.wait()
    assert broker.returncode == 0


def test_a_node_is_ready_when_a_broker_has_welcomed_it(manager: Manager) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    node = start("worker", "--slots", "1", "--broker", address, env=manager.environment)
    try:
        assert manager.until("STATUS=waits")[0] == f"STATUS=waits for the broker at {address}"
        manager.until("WATCHDOG")
        broker = start("broker", "--bind", address, "--json")
        try:
            said = manager.until("STATUS=works")
            assert "READY=1" in said
            node.send_signal(signal.SIGTERM)
            said = manager.until("STOPPING=1")
            node.communicate(timeout=120)
        finally:
            broker.send_signal(signal.SIGTERM)
            out, _ = broker.communicate(timeout=120)
            assert json.loads(out)["address"] == address
    finally:
        node.kill()
        node.wait()
    assert node.returncode == 0


def test_an_abstract_socket_serves_as_well() -> None:
    manager = Manager(f"@manyhands-test-{uuid.uuid4().hex}")
    try:
        environ = dict(manager.environment)
        notifier = Notifier(environ)
        assert not environ, "children must not speak for their parent"
        notifier.tell("READY=1", "STATUS=well")
        assert manager.until("STATUS") == ["READY=1", "STATUS=well"]
        notifier.alive(100.0)
        notifier.alive(100.4)
        notifier.alive(100.6)
        notifier.tell("STOPPING=1")
        assert manager.until("STOPPING").count("WATCHDOG=1") == 2
    finally:
        manager.socket.close()


def test_without_a_manager_nothing_is_sent() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    assert not notifier.wanted
    notifier.tell("READY=1")
    notifier.alive(1e9)
    gone = Notifier({"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "1000"})
    gone.tell("READY=1")
