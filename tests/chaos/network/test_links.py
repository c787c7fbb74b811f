"""Links that fail in every way: parted, mute one way, half-open, reset, lossy; and a stopped broker."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import manyhands
from harness.cluster.bench import Bench, counters, joined
from harness.cluster.ledger import Ledger, work
from harness.cluster.relay import DOWN, UP, Relay
from harness.processes import eventually, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform != "linux", reason="needs a second loopback address (127.0.0.2) for the relay"
    ),
]

#: Short, where a node is to lose it.
LEASE = 1.5
#: Where none is to: no node loses it for the sake of a busy machine.
LONG_LEASE = 100.0
BOUND = 100.0
#: Tasks that wait for a node, at least.
WORK = 100


class Ward:
    """One node behind a relay, one beside it, and work for both.

    No task is given up, however often the node that runs it loses a short lease on a busy machine.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        lease: float,
        alone: bool = False,
        relayed: bool = True,
        **config: Any,
    ) -> None:
        self.ledger = Ledger(bench.folder)
        self.broker = bench.broker(lease=lease, beat_interval=0.1, crash_limit=1_000, **config)
        self.relay = bench.stack.enter_context(Relay(self.broker.port, seed=self.ledger.seed))
        self.client = bench.client(self.broker.address)
        self.far = bench.node(self.relay.address if relayed else self.broker.address, "far")
        self.near = None if alone else bench.node(self.broker.address, "near")
        joined(self.client, 1 if alone else 2)
        self.executor = bench.executor(self.broker.address)

    def counters(self) -> dict[str, int]:
        """The broker's."""
        return counters(self.client)

    def busy_far_node(self) -> None:
        """Wait until the far node runs something. There is work until it does."""

        def is_busy() -> bool:
            if len(self.ledger.submitted) - len(self.ledger.delivered) < WORK:
                self.ledger.hand_in_more(self.executor, WORK, 0.02)
            return any(n["name"] == "far" and n["running"] for n in self.client.query("nodes"))

        eventually(is_busy, BOUND, what="the far node has work")

    def delivered(self, what: str) -> None:
        """Wait until everything is."""
        eventually(lambda: self.ledger.drained, BOUND, what=what)

    def drain(self) -> None:
        """Wait until everything is delivered, and judge."""
        self.delivered("drained")
        print(self.ledger.judge())


def back(ward: Ward) -> None:
    """Wait until the far node works again."""
    joined(ward.client, 2)
    ward.busy_far_node()


@pytest.mark.parametrize("ways", [(UP, DOWN), (UP,), (DOWN,)], ids=["both", "up", "down"])
def test_a_node_that_is_parted_for_two_leases(bench: Bench, ways: tuple[str, ...]) -> None:
    """Rows 26 and 27. What it ran is run elsewhere; what it brings when it is back does not count."""
    ward = Ward(bench, lease=LEASE)
    ward.busy_far_node()
    ward.relay.hold(*ways)
    parted = time.monotonic()
    eventually(lambda: "node far is gone: " in ward.broker.log, BOUND, what="condemned")
    if UP in ways:  # no renewal arrives; ZeroMQ would notice the silence as well, much later
        assert "node far is gone: its lease ran out" in ward.broker.log
    ward.delivered("done by the other node")
    eventually(lambda: time.monotonic() > parted + 2 * LEASE, BOUND)
    ward.relay.open()
    back(ward)
    ward.drain()


def test_a_link_that_is_reset_again_and_again_costs_nothing(bench: Bench) -> None:
    """A node that comes back in time keeps what it runs: nothing is run a second time."""
    ward = Ward(bench, lease=LONG_LEASE, module="chaos.patient_broker")
    for _ in range(5):
        ward.busy_far_node()
        before = ward.relay.accepted
        ward.relay.reset()
        eventually(lambda: ward.relay.accepted > before, BOUND, what="it comes back")  # noqa: B023
    ward.busy_far_node()
    ward.drain()
    assert ward.counters().get("nodes_condemned", 0) == 0
    assert max(ward.ledger.runs.values()) == 1


def test_a_half_open_connection_is_noticed_on_both_sides(bench: Bench) -> None:
    """Row 30. Bytes vanish, no end of the connection is ever seen."""
    ward = Ward(bench, lease=LEASE)
    ward.busy_far_node()
    ward.relay.swallow(UP, DOWN)
    noticed = "node far is gone: its lease ran out"
    eventually(lambda: noticed in ward.broker.log, BOUND, what="the broker noticed")
    ward.delivered("done by the other node")
    ward.relay.open()  # new connections pass; the old ones are dead, and neither end is told
    back(ward)
    ward.drain()


def test_a_client_behind_a_half_open_connection_gets_what_it_missed(bench: Bench) -> None:
    """Rows 27 and 30, for the client."""
    ward = Ward(bench, lease=LONG_LEASE, relayed=False)
    with manyhands.Executor(address=ward.relay.address) as executor:
        before = executor.submit(abs, -1).result(BOUND)
        futures = [executor.submit(work, ward.ledger.file, task, 0.01) for task in range(50)]
        ward.ledger.submitted.update(range(50))
        ward.relay.swallow(DOWN)
        eventually(lambda: len(ward.ledger.runs) == 50, BOUND, what="all ran")
        ward.relay.open()
        assert before == 1
        assert [future.result(BOUND) for future in futures] == list(range(50))
    assert max(ward.ledger.runs.values()) == 1


@pytest.mark.parametrize(("loss", "threshold"), [(0.3, 0.5), (1.0, 8.0)], ids=["30%", "100%"])
def test_lost_heartbeats_requeue_nothing(bench: Bench, loss: float, threshold: float) -> None:
    """Row 28. Suspicion is made easy where only some are lost, or there would be none to withstand."""
    ward = Ward(bench, lease=LONG_LEASE, alone=True, phi_threshold=threshold)
    eventually(lambda: ward.relay.passed > 5, what="heartbeats pass")
    ward.relay.loss = loss
    ward.ledger.hand_in_more(ward.executor, 60, 0.1)
    eventually(lambda: ward.relay.dropped > 10, BOUND, what="heartbeats were lost")
    eventually(lambda: ward.counters().get("suspicions"), BOUND, what="the node was suspected")
    ward.drain()
    assert ward.counters().get("nodes_condemned", 0) == 0
    assert max(ward.ledger.runs.values()) == 1


def test_a_broker_that_stood_still_for_longer_than_the_lease_requeues_nothing(
    bench: Bench,
) -> None:
    """Row 17, with real nodes and their heartbeats."""
    # Longer than a busy machine keeps a node from renewing it, and waited out once.
    lease = 8.0
    ward = Ward(bench, lease=lease, module="chaos.patient_broker")
    ward.busy_far_node()
    monitor = [p for p in psutil.Process(ward.broker.pid).children() if udp(p)]
    for process in (psutil.Process(ward.broker.pid), *monitor):
        process.suspend()
    stopped = time.monotonic()
    eventually(lambda: time.monotonic() > stopped + lease + 1.0, BOUND)
    for process in (psutil.Process(ward.broker.pid), *monitor):
        process.resume()
    ward.drain()
    assert ward.counters().get("nodes_condemned", 0) == 0
    assert max(ward.ledger.runs.values()) == 1
    assert "did not run for" in ward.broker.log


def udp(process: psutil.Process) -> bool:
    """Whether it is the heartbeat monitor."""
    return any(c.type.name == "SOCK_DGRAM" for c in process.net_connections("inet"))


@pytest.fixture(autouse=True)
def nobody_is_left_stopped(bench: Bench) -> Iterator[None]:
    """Wake whatever a failed test left asleep."""
    yield
    for part in bench.nodes:
        if part.alive:
            part.signal(signal.SIGCONT)


def test_the_relay_itself(tmp_path: Path) -> None:
    """What is held comes later and whole; what is swallowed never."""
    import socket

    port = free_port()
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        Relay(port) as relay,
        socket.create_connection(("127.0.0.2", port), BOUND) as near,
        server.accept()[0] as far,
    ):
        far.settimeout(BOUND)
        near.sendall(b"one")
        assert far.recv(10) == b"one"
        relay.hold(UP)
        near.sendall(b"two" * 100_000)
        relay.open()
        got = b""
        while len(got) < 300_000:
            got += far.recv(1 << 16)
        assert got == b"two" * 100_000
        relay.swallow(UP)
        near.sendall(b"lost")
        far.sendall(b"heard")  # the other way still works, and what was sent is taken
        assert near.recv(10) == b"heard"
        relay.open()
        near.sendall(b"three")
        assert far.recv(10) == b"three"
        relay.reset()
        with pytest.raises(ConnectionResetError):
            near.recv(10)
