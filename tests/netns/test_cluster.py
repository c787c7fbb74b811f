"""A cluster of several hosts whose network fails for real: packets vanish, and no socket is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.cluster.hosts import BOUND, Keyed
from harness.cluster.ledger import Ledger, run
from harness.processes import Gate, eventually, wait_at
from manyhands.testbed import Network, Shape

pytestmark = pytest.mark.slow

LEASE = 1.5
#: No node loses it for the sake of a busy machine.
LONG_LEASE = 100.0
#: Tasks that wait for a node, at least.
WORK = 40


class Fleet(Keyed):
    """With an executor on the first host, and a node on each of the others.

    No task is given up, however often the node that runs it loses a short lease on a busy machine.
    """

    def __init__(self, network: Network, stack: ExitStack, folder: Path, lease: float) -> None:
        super().__init__(network, stack, folder, lease=lease, crash_limit=1_000)
        self.folder = folder
        self.ledger = Ledger(folder)
        self.executor = self.connect(self.home)
        for host in self.others:
            self.node(host)

    def hold(self, count: int) -> Gate:
        """Hand in tasks that run until a gate is open."""
        gate = Gate(self.folder / "gate")
        self.stack.callback(gate.open)
        for task in range(count):
            self.ledger.hand_in(self.executor, hold_at, task, gate.path)
        return gate

    def busy(self, name: str) -> None:
        """Wait until the node of that name runs something. There is work until it does."""

        def is_busy() -> bool:
            if len(self.ledger.submitted) - len(self.ledger.delivered) < WORK:
                self.ledger.hand_in_more(self.executor, WORK, 0.02)
            return any(n["name"] == name and n["running"] for n in self.client.query("nodes"))

        eventually(is_busy, BOUND, what=f"{name} has work")

    def condemned(self, name: str) -> None:
        """Wait until the broker has given up a node."""
        eventually(lambda: name not in self.names(), BOUND, what=f"{name} is condemned")
        assert self.counters()["nodes_condemned"]

    def delivered(self) -> None:
        """Wait until everything is."""
        eventually(lambda: self.ledger.drained, BOUND, what="done")

    def works_again(self, name: str) -> None:
        """Wait until the node of that name has joined and has been given work."""
        self.joined(len(self.others))
        self.busy(name)
        self.delivered()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack.enter_context(Network(3)), stack, tmp_path, LEASE)


@pytest.fixture
def calm_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One whose nodes keep their leases."""
    with ExitStack() as stack:
        yield Fleet(stack.enter_context(Network(3)), stack, tmp_path, LONG_LEASE)


def hold_at(file: str, task: int, gate: Path) -> int:
    """Leave a trace, run until the gate is open."""
    done = run(file, task)
    wait_at(gate)
    return done


def _part(fleet: Fleet) -> None:
    fleet.network.partition([fleet.others[0]])


def _mute(fleet: Fleet) -> None:
    fleet.network.drop(fleet.others[0], fleet.home)


def _deafen(fleet: Fleet) -> None:
    fleet.network.drop(fleet.home, fleet.others[0])


@pytest.mark.parametrize("fault", [_part, _mute, _deafen], ids=["parted", "mute", "deaf"])
def test_a_host_that_is_cut_off_for_two_leases(
    fleet: Fleet, fault: Callable[[Fleet], None]
) -> None:
    """Rows 26 and 27. Its tasks run elsewhere meanwhile; what it still brings is stale and refused."""
    slots = fleet.client.query("stats")["slots"]
    gate = fleet.hold(20)
    eventually(lambda: len(fleet.ledger.runs) >= slots, BOUND, what="both nodes are in mid-task")
    fault(fleet)
    cut = time.monotonic()
    fleet.condemned("host-1")
    gate.open()
    fleet.delivered()
    eventually(lambda: time.monotonic() > cut + 2 * LEASE, BOUND)
    fleet.network.heal()
    fleet.works_again("host-1")
    print(fleet.ledger.judge())
    if fault is not _deafen:  # a deaf node's results still arrive in time
        # Some task ran on both sides of the cut, so there was a second result to refuse.
        assert max(fleet.ledger.runs.values()) >= 2
    assert fleet.counters()["tasks_done"] == len(fleet.ledger.submitted)


def test_a_host_that_loses_its_power_leaves_a_half_open_connection(fleet: Fleet) -> None:
    """Row 30. The lease runs out although no connection was ever closed; the rest does its work."""
    fleet.busy("host-1")
    fleet.network.power_off(fleet.others[0])
    fleet.condemned("host-1")
    fleet.delivered()
    fleet.network.power_on(fleet.others[0])
    with fleet.others[0].inside():
        fleet.cluster.add_node("host-1")
    fleet.works_again("host-1")
    print(fleet.ledger.judge())


def test_a_slow_and_lossy_cable_costs_time_and_nothing_else(calm_fleet: Fleet) -> None:
    """Rows 28 and 29. TCP sends again what is lost, so no node is condemned and nothing runs twice."""
    fleet = calm_fleet
    fleet.network.shape(fleet.others[0], Shape(delay=0.02, loss=0.02, seed=fleet.ledger.seed))
    fleet.ledger.hand_in_more(fleet.executor, 60, 0.02)
    fleet.busy("host-1")
    fleet.delivered()
    print(fleet.ledger.judge())
    assert fleet.counters().get("nodes_condemned", 0) == 0
    assert max(fleet.ledger.runs.values()) == 1
