"""How programs and their parts come to their ends: nothing is left, and everybody is told."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.processes import eventually
from harness.programs import Hosts, Script
from manyhands import Client

#: Of the broker, so that what waits for them takes moments.
QUICK = {"lease": 2.0, "session_grace": 4.0}
PROGRAM = """
    def work(number, seconds):
        if number == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("began", number, flush=True)
        time.sleep(seconds)
        print("done", number, flush=True)

    if __name__ == "__main__":
        processes = [mp.Process(target=work, args=(n, SECONDS)) for n in range(4)]
        mp.start_all(processes)
        print("PIDS", *(p.pid for p in processes), flush=True)
        print("HOSTS", *(p.host for p in processes), flush=True)
        for process in processes:
            process.join()
        print("CODES", *(p.exitcode for p in processes), flush=True)
"""


@pytest.fixture
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    """Two hosts whose parts a test may kill."""
    options: dict[str, Any] = dict(QUICK)
    if getattr(request, "param", "") == "log":
        options["coordination_dir"] = str(tmp_path / "log")
    started = Hosts(tmp_path, **options)
    yield started
    started.close()


class Running:
    """The program above, with all its processes begun."""

    def __init__(self, hosts: Hosts, host: str, seconds: float) -> None:
        text = PROGRAM.replace("SECONDS", str(seconds))
        address = hosts.broker.address
        self.script = Script(hosts.folder, text, address=address, host=host)
        self.members = [psutil.Process(int(pid)) for pid in self.script.until("PIDS").split()]
        self.places = self.script.until("HOSTS").split()

    @property
    def alive(self) -> int:
        """How many of its processes run."""
        return sum(one.is_running() and one.status() != "zombie" for one in self.members)

    def codes(self) -> str:
        """What the root says of their ends."""
        return self.script.until("CODES")

    def on(self, host: str) -> list[str]:
        """The names of those that run on a host."""
        return [f"Process-{n}" for n, place in enumerate(self.places, 1) if place == host]

    def codes_without(self, host: str) -> str:
        """What is said of their ends when those on a host are killed."""
        return " ".join("-9" if place == host else "0" for place in self.places)


def serves_again(hosts: Hosts, host: str) -> None:
    """Run the program once more."""
    text = PROGRAM.replace("SECONDS", "0")
    script = Script(hosts.folder, text, address=hosts.broker.address, host=host)
    assert script.until("CODES") == "0 0 0 0"
    assert script.finish() == (0, "")


def agent_of(running: Running, host: str) -> psutil.Process:
    """The host agent that has started the processes there."""
    member = running.members[running.places.index(host)]
    server = member.parent()
    assert server is not None
    agent = server.parent()
    assert agent is not None
    return agent


@pytest.mark.parametrize("host", ["", "a"])
def test_the_root_is_killed(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host, 600)
    began = time.monotonic()
    running.script.kill()
    eventually(lambda: not running.alive, 20, what="its processes ended")
    # One of them ignores SIGTERM.
    assert time.monotonic() - began < 12


def test_the_root_exits_without_a_word(hosts: Hosts) -> None:
    script = Script(
        hosts.folder,
        """
        def work():
            print("PID", os.getpid(), flush=True)
            time.sleep(600)

        if __name__ == "__main__":
            mp.Process(target=work).start()
            time.sleep(0.2)
            os._exit(3)
        """,
        address=hosts.broker.address,
    )
    member = psutil.Process(int(script.until("PID")))
    assert script.finish()[0] == 3
    eventually(lambda: not member.is_running(), what="it ended")


@pytest.mark.parametrize("host", ["", "a"])
def test_an_interrupt_ends_all(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host, 600)
    running.script.process.send_signal(signal.SIGINT)
    code, err = running.script.finish()
    assert code == 1
    assert err.count("KeyboardInterrupt") == 5
    assert not running.alive


@pytest.mark.parametrize("host", ["", "a"])
def test_a_host_agent_is_killed(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host, 3)
    agent_of(running, "a").kill()
    assert running.codes() == running.codes_without("a")
    code, err = running.script.finish()
    assert code == 0
    assert err.splitlines() == [
        f"manyhands: {name}: the host agent died of SIGKILL (9)" for name in running.on("a")
    ]
    assert not running.alive
    # Another one takes its place.
    serves_again(hosts, host)


def test_what_starts_members_is_killed(hosts: Hosts) -> None:
    running = Running(hosts, "", 3)
    server = running.members[running.places.index("a")].parent()
    assert server is not None
    server.kill()
    assert running.codes() == running.codes_without("a")
    code, err = running.script.finish()
    assert code == 0
    assert f"{running.on('a')[0]}: the process that starts members has died" in err
    serves_again(hosts, "")


@pytest.mark.parametrize("host", ["", "a"])
def test_a_node_is_killed(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host, 5)
    hosts.nodes["a"].kill()
    eventually(lambda: running.alive == 2, what="its members ended with it")
    assert running.codes() == running.codes_without("a")
    code, err = running.script.finish()
    assert code == 0
    assert f"{running.on('a')[0]}: its host was not heard of for a lease" in err


@pytest.mark.parametrize("hosts", ["log"], indirect=True)
@pytest.mark.parametrize("host", ["", "a"])
def test_the_broker_is_killed_and_comes_back(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host, 3)
    hosts.broker.kill()
    hosts.broker.start()
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")
    assert sum(line.startswith("done") for line in running.script.lines) == 4


@pytest.mark.parametrize("host", ["", "a"])
def test_the_broker_comes_back_without_its_log(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host, 600)
    hosts.broker.kill()
    hosts.broker.start()
    assert running.codes() == "-9 -9 -9 -9"
    code, err = running.script.finish()
    assert code == 0
    assert err == (
        "manyhands: the program has ended: the broker was started anew, without the program in its "
        "log\n"
    )
    eventually(lambda: not running.alive, what="its processes ended")


def test_a_node_that_is_drained_waits_for_members(hosts: Hosts) -> None:
    running = Running(hosts, "", 2)
    hosts.nodes["a"].signal(signal.SIGTERM)
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")
    node = hosts.nodes["a"].process
    assert node is not None
    assert node.wait(20) == 0


def test_a_node_that_is_told_twice_does_not_wait(hosts: Hosts) -> None:
    running = Running(hosts, "", 600)
    for _ in range(2):
        hosts.nodes["a"].signal(signal.SIGTERM)
        eventually(lambda: hosts.nodes["a"].alive, what="it has taken the first")
        time.sleep(0.3)
    node = hosts.nodes["a"].process
    assert node is not None
    node.wait(20)
    eventually(lambda: running.alive == 2, what="its members ended")
    running.script.kill()
    eventually(lambda: not running.alive, what="all ended")


def test_members_are_listed(hosts: Hosts) -> None:
    running = Running(hosts, "a", 600)
    with Client(hosts.broker.address) as client:
        listed = client.query("ps")
    assert [(one["name"], one["node"], one["state"]) for one in listed] == [
        ("MainProcess", "a", "running"),
        *((f"Process-{n + 1}", running.places[n], "running") for n in range(4)),
    ]
    assert [one["pid"] for one in listed[1:]] == [one.pid for one in running.members]
    assert {one["program_name"] for one in listed} == {"script.py"}
    running.script.kill()
    eventually(lambda: not running.alive, what="all ended")


def test_members_are_stopped_where_their_agent_stands_still(hosts: Hosts) -> None:
    running = Running(hosts, "", 600)
    agent = agent_of(running, "a")
    here = [m for m, place in zip(running.members, running.places, strict=True) if place == "a"]
    agent.suspend()
    try:
        # Before the broker gives away what they hold, which it does at the end of the lease.
        eventually(
            lambda: all(member.status() == psutil.STATUS_STOPPED for member in here),
            QUICK["lease"],
            what="they were stopped",
        )
        with Client(hosts.broker.address) as client:
            eventually(
                lambda: sum(one["code"] is None for one in client.query("ps")) == 3,
                what="the broker does not count them any more",
            )
        assert all(member.status() == psutil.STATUS_STOPPED for member in here)
    finally:
        agent.resume()
    eventually(lambda: running.alive == 2, what="they do not count any more, and were killed")
    running.script.kill()
    eventually(lambda: not running.alive, what="all ended")


def test_members_go_on_if_their_agent_wakes_up_in_time(hosts: Hosts) -> None:
    running = Running(hosts, "", 3)
    agent = agent_of(running, "a")
    for _ in range(3):
        agent.suspend()
        time.sleep(0.5)
        agent.resume()
        time.sleep(0.3)
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")


RUNS = 3


@pytest.mark.parametrize("host", ["", "a"])
def test_programs_leave_nothing_in_agents_and_broker(hosts: Hosts, host: str) -> None:
    text = """
        import socket

        def work(number, lock):
            with lock:
                print(number, file=sys.stderr if number % 2 else sys.stdout)
            if number == 5:
                os.kill(os.getpid(), 9)

        if __name__ == "__main__":
            lock = mp.Lock()
            processes = [mp.Process(target=work, args=(n, lock)) for n in range(12)]
            mp.start_all(processes)
            for process in processes:
                process.join()
            print("CODES", sum(p.exitcode for p in processes))
    """

    def run() -> None:
        script = Script(hosts.folder, text, address=hosts.broker.address, host=host)
        assert script.until("CODES") == "-9"
        assert script.finish()[0] == 0

    def descriptors() -> dict[int, int]:
        nodes = [psutil.Process(node.pid) for node in hosts.nodes.values()]
        broker = psutil.Process(hosts.broker.pid)
        processes = [broker, *nodes, *(one for n in nodes for one in n.children(recursive=True))]
        return {process.pid: process.num_fds() for process in processes}

    run()
    with Client(hosts.broker.address) as client:
        eventually(lambda: not client.query("ps"), what="the program is forgotten")
        before = descriptors()
        for _ in range(RUNS):
            run()
        eventually(lambda: not client.query("ps"), what="the programs are forgotten")

        def grown() -> dict[int, int]:
            # A descriptor that a process opens once and keeps is no leak; one for each run is.
            now = descriptors()
            return {pid: now[pid] - before[pid] for pid in now.keys() & before.keys()}

        eventually(lambda: max(grown().values()) < RUNS, what="descriptors are closed")
        assert descriptors().keys() == before.keys()


def test_the_process_of_an_own_cluster_is_killed(tmp_path: Path) -> None:
    script = Script(
        tmp_path,
        """
        if __name__ == "__main__":
            processes = [mp.Process(target=time.sleep, args=(600,)) for _ in range(2)]
            mp.start_all(processes)
            print("RUNNING", flush=True)
            for process in processes:
                process.join()
            print("CODES", *(p.exitcode for p in processes))
        """,
    )
    script.until("RUNNING")
    [cluster] = psutil.Process(script.process.pid).children()
    cluster.kill()
    assert script.until("CODES") == "-9 -9"
    code, err = script.finish()
    assert code == 0
    assert "the process of this cluster died of SIGKILL" in err
