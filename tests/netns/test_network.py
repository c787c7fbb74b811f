"""The test-bed itself: every way in which it breaks a network does break it, and nothing else does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from harness.processes import eventually
from manyhands.testbed import Host, Network, Shape, sweep
from manyhands.testbed._names import NAMESPACES
from manyhands_shared.errors import ManyhandsError

Make = Callable[[int], Network]
#: Seconds in which nothing comes where nothing may. What does come is waited for longer.
PATIENCE = 0.3
BOUND = 60.0


def listener(host: Host, port: int) -> socket.socket:
    with host.inside():
        sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind((host.address, port))
    sock.settimeout(PATIENCE)
    return sock


def passes(source: Host, target: Host) -> bool:
    """Whether datagrams of `source` reach `target`.

    The first may be lost while the neighbours ask for each other, so it sends more than one.
    """
    return _told(source, target, BOUND)


def is_cut(source: Host, target: Host) -> bool:
    """Whether nothing of `source` reaches `target` for a moment."""
    return not _told(source, target, PATIENCE)


def _told(source: Host, target: Host, seconds: float) -> bool:
    with source.inside():
        sender = socket.socket(type=socket.SOCK_DGRAM)
    with sender, listener(target, 9000) as receiver:
        receiver.settimeout(0.05)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            sender.sendto(b"?", (target.address, 9000))
            with suppress(TimeoutError):
                return receiver.recv(8) == b"?"
        return False


def connected(client: Host, server: Host) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection, the client's first."""
    with server.inside():
        door = socket.create_server((server.address, 9001))
    with client.inside():
        near = socket.create_connection((server.address, 9001), timeout=BOUND)
    with door:
        far, _ = door.accept()
    far.settimeout(BOUND)
    return near, far


def own_namespace() -> str:
    """The calling thread's network namespace."""
    return str(Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").readlink())


def names(pid: int | None = None) -> set[str]:
    """Namespaces that there are, of one owner or of all."""
    found = {entry.name for entry in NAMESPACES.iterdir()}
    return found if pid is None else {name for name in found if f"-{pid}-" in name}


def test_hosts_reach_each_other_and_nothing_else(network: Make) -> None:
    first, second, third = network(3).hosts
    assert passes(first, second)
    assert passes(third, first)
    with first.inside(), pytest.raises(OSError, match="unreachable"):
        socket.create_connection(("10.0.0.1", 80), timeout=BOUND)


def test_only_the_thread_inside_is_on_the_host(network: Make) -> None:
    host = network(1).hosts[0]
    own = own_namespace()
    seen: list[str] = []

    def look() -> None:
        seen.append(own_namespace())

    with host.inside():
        look()
        started_there = threading.Thread(target=look)
        started_there.start()
        started_there.join()
        said = subprocess.run(
            ["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True
        )
        seen.append(said.stdout.strip())
    look()
    assert seen[0] != own
    assert seen[1] == seen[2] == seen[0]
    assert seen[3] == own


def test_a_partition_cuts_between_groups_only_and_heals(network: Make) -> None:
    bed = network(4)
    one, two, three, four = bed.hosts
    bed.partition([one, two])
    assert passes(one, two)
    assert passes(three, four)
    assert is_cut(one, three)
    assert is_cut(four, two)
    bed.partition([one], [three])
    assert is_cut(one, two)
    assert is_cut(one, three)
    assert passes(two, four)
    bed.heal()
    assert passes(one, three)
    assert passes(four, one)


def test_a_connection_outlives_a_partition_and_nobody_is_told(network: Make) -> None:
    bed = network(2)
    near, far = connected(*bed.hosts)
    with near, far:
        bed.partition([bed.hosts[0]])
        near.send(b"late")
        far.settimeout(PATIENCE)
        with pytest.raises(TimeoutError):
            far.recv(8)
        bed.heal()
        far.settimeout(BOUND)
        assert far.recv(8) == b"late"


def test_one_way_is_dropped_and_the_other_stays(network: Make) -> None:
    bed = network(3)
    one, two, three = bed.hosts
    assert passes(one, two)  # the neighbours know each other already
    bed.drop(one, two)
    assert is_cut(one, two)
    assert passes(two, one)
    assert passes(one, three)
    bed.heal()
    assert passes(one, two)


def test_a_host_without_power_leaves_a_half_open_connection(network: Make) -> None:
    bed = network(2)
    one, two = bed.hosts
    with two.inside():
        sleeper = subprocess.Popen(["sleep", "600"])
    near, far = connected(one, two)
    with near:
        assert two.processes() == [sleeper.pid]
        bed.power_off(two)
        assert sleeper.wait(BOUND) == -signal.SIGKILL
        far.close()  # its namespace has no cable any more
        near.settimeout(PATIENCE)
        near.send(b"anybody?")
        with pytest.raises(TimeoutError):
            near.recv(8)
        with pytest.raises(ManyhandsError, match="host-1 is off"), two.inside():
            pass
        bed.power_on(two)
        assert passes(one, two)
        assert two.processes() == []
        near.settimeout(BOUND)
        with pytest.raises(ConnectionResetError):  # by a kernel that knows of no connection
            near.recv(8)


def test_a_shaped_cable_delays_limits_and_loses(network: Make) -> None:
    bed = network(2)
    one, two = bed.hosts
    near, far = connected(one, two)
    with near, far:
        bed.shape(one, Shape(delay=0.05))
        began = time.monotonic()
        near.send(b"ping")
        assert far.recv(8) == b"ping"
        far.send(b"pong")
        assert near.recv(8) == b"pong"
        assert time.monotonic() - began >= 0.1

        bed.shape(one, Shape(rate=1_000_000))
        began = time.monotonic()
        near.sendall(bytes(300_000))
        left = 300_000
        while left:
            left -= len(far.recv(65_536))
        assert (
            time.monotonic() - began >= 0.25
        )  # the first buffers are full at once, the rest is not

        bed.shape(one, Shape(loss=1.0))
        assert is_cut(one, two)
        bed.shape(one, None)
        assert passes(one, two)
        near.send(b"bye")
        assert far.recv(8) == b"bye"


def test_a_partition_holds_for_a_shaped_host_too(network: Make) -> None:
    bed = network(2)
    one, two = bed.hosts
    bed.shape(one, Shape(delay=0.001))
    assert passes(one, two)
    bed.partition([one])
    assert is_cut(one, two)
    bed.power_off(one)
    bed.power_on(one)
    assert passes(one, two)


def test_half_of_the_frames_are_lost_by_the_seed(network: Make) -> None:
    bed = network(2)
    one, two = bed.hosts
    assert passes(one, two)
    bed.shape(one, Shape(loss=0.5, seed=3))
    with one.inside():
        sender = socket.socket(type=socket.SOCK_DGRAM)
    got = 0
    with sender, listener(two, 9000) as receiver:
        for _ in range(200):
            sender.sendto(b"?", (two.address, 9000))

        def has_ended() -> bool:
            """One of the next comes, and it comes behind all others."""
            nonlocal got
            sender.sendto(b"end", (two.address, 9000))
            with suppress(TimeoutError):
                while receiver.recv(8) != b"end":
                    got += 1
                return True
            return False

        eventually(has_ended, interval=0)
    assert 50 < got < 150


def test_closing_leaves_no_name_and_no_process() -> None:
    with Network(2) as bed:
        assert len(names(os.getpid())) == 3
        with bed.hosts[1].inside():
            sleeper = subprocess.Popen(["sleep", "600"])
        bed.shape(bed.hosts[0], Shape(delay=0.01))
    assert sleeper.wait(BOUND) == -signal.SIGKILL
    assert not names(os.getpid())
    bed.close()


_OWNER = """
import subprocess, sys, threading
from manyhands.testbed import Network, Shape
network = Network(2)
network.shape(network.hosts[0], Shape(delay=0.01))
with network.hosts[1].inside():
    sleeper = subprocess.Popen(["sleep", "600"])
print(sleeper.pid, flush=True)
threading.Event().wait()
"""


def test_what_a_killed_owner_leaves_is_swept_by_the_next_and_nobody_elses(network: Make) -> None:
    living = network(1)
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner.stdout as pipe:
        sleeper = int(pipe.readline())
    left = names(owner.pid)
    assert len(left) == 3
    sweep()
    assert left <= names()  # its owner lives
    owner.kill()
    owner.wait()
    network(1)
    assert not left & names()
    eventually(lambda: not _lives(sleeper), what="its process has ended")
    assert living.hosts[0].processes() == []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("hosts", [0, 1_001])
def test_a_number_of_hosts_that_is_none(hosts: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        Network(hosts)


@pytest.mark.parametrize("wrong", [{"delay": -1}, {"rate": -1}, {"loss": 1.1}])
def test_a_shape_that_is_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Shape(**wrong)  # type: ignore[arg-type]
