"""How programs and their parts come to their ends: nothing is left, and everybody is told."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.processes import Gate, eventually, has_ended
from harness.programs import SECONDS, Hosts, Run, Script
from manyhands import Client

#: The lease of hosts, by the name that a test gives: none is lost because the machine is busy.
LEASES = {"short": 6.0, "long": 12.0}
PROGRAM = """
    import fcntl

    def work(number, gate):
        if number == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("began", number, flush=True)
        with open(gate) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
        print("done", number, flush=True)

    if __name__ == "__main__":
        processes = [mp.Process(target=work, args=(n, sys.argv[1])) for n in range(4)]
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
    named = getattr(request, "param", "").split()
    leases = [LEASES[name] for name in named if name in LEASES]
    options: dict[str, Any] = {"lease": leases[0] if leases else 100.0}
    if "log" in named:
        options["coordination_dir"] = str(tmp_path / "log")
    started = Hosts(tmp_path, **options)
    yield started
    started.close()


class Running:
    """The program above, with all its processes at work. They end when the gate is opened."""

    def __init__(self, hosts: Hosts, host: str) -> None:
        self.gate = Gate(hosts.folder / "gate")
        hosts.stack.callback(self.gate.open)
        address = hosts.broker.address
        self.script = Script(
            hosts.folder, PROGRAM, address=address, host=host, arguments=[str(self.gate.path)]
        )
        self.members = [psutil.Process(int(pid)) for pid in self.script.until("PIDS").split()]
        self.places = self.script.until("HOSTS").split()
        while sum(line.startswith("began") for line in self.script.lines) < len(self.members):
            self.script.until("began")

    @property
    def alive(self) -> int:
        """How many of its processes run."""
        return sum(not has_ended(member) for member in self.members)

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
    running = Running(hosts, host)
    running.gate.open()
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")


def ends_on_one_host(running: Running) -> None:
    """Wait until only the two processes on the other host are left; have them end."""
    eventually(lambda: running.alive == 2, SECONDS, what="those on the host ended")
    running.gate.open()


def has_left(hosts: Hosts, name: str) -> bool:
    """Whether the broker gives a node no more tasks, as it has none and drains."""
    with Client(hosts.broker.address) as client:
        return name not in [one["name"] for one in client.query("nodes")]


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
    running = Running(hosts, host)
    running.script.kill()
    # One of them ignores SIGTERM.
    eventually(lambda: not running.alive, SECONDS, what="its processes ended")


def test_the_root_exits_without_a_word(hosts: Hosts) -> None:
    script = Script(
        hosts.folder,
        """
        def work(printed):
            print("PID", os.getpid(), flush=True)
            printed.set()
            time.sleep(600)

        if __name__ == "__main__":
            printed = mp.Event()
            mp.Process(target=work, args=(printed,)).start()
            printed.wait()
            os._exit(3)
        """,
        address=hosts.broker.address,
    )
    member = psutil.Process(int(script.until("PID")))
    assert script.finish()[0] == 3
    eventually(lambda: has_ended(member), SECONDS, what="it ended")


@pytest.mark.parametrize("host", ["", "a"])
def test_an_interrupt_ends_all(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host)
    running.script.process.send_signal(signal.SIGINT)
    code, err = running.script.finish()
    assert code == 1
    assert err.count("KeyboardInterrupt") == 5
    assert not running.alive


@pytest.mark.parametrize("host", ["", "a"])
def test_a_host_agent_is_killed(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host)
    agent_of(running, "a").kill()
    ends_on_one_host(running)
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
    running = Running(hosts, "")
    server = running.members[running.places.index("a")].parent()
    assert server is not None
    server.kill()
    ends_on_one_host(running)
    assert running.codes() == running.codes_without("a")
    code, err = running.script.finish()
    assert code == 0
    assert f"{running.on('a')[0]}: the process that starts members has died" in err
    serves_again(hosts, "")


@pytest.mark.parametrize("hosts", ["short"], indirect=True)
@pytest.mark.parametrize("host", ["", "a"])
def test_a_node_is_killed(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host)
    hosts.nodes["a"].kill()
    ends_on_one_host(running)
    assert running.codes() == running.codes_without("a")
    code, err = running.script.finish()
    assert code == 0
    assert f"{running.on('a')[0]}: its host was not heard of for a lease" in err


@pytest.mark.parametrize("hosts", ["log"], indirect=True)
@pytest.mark.parametrize("host", ["", "a"])
@pytest.mark.parametrize("when", ["meanwhile", "afterwards"])
def test_the_broker_is_killed_and_comes_back(hosts: Hosts, host: str, when: str) -> None:
    running = Running(hosts, host)
    hosts.broker.kill()
    if when == "meanwhile":
        running.gate.open()
        eventually(lambda: not running.alive, SECONDS, what="its processes ended")
    hosts.broker.start()
    running.gate.open()
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")
    assert sum(line.startswith("done") for line in running.script.lines) == 4


@pytest.mark.parametrize("host", ["", "a"])
def test_the_broker_comes_back_without_its_log(hosts: Hosts, host: str) -> None:
    running = Running(hosts, host)
    hosts.broker.kill()
    hosts.broker.start()
    assert running.codes() == "-9 -9 -9 -9"
    code, err = running.script.finish()
    assert code == 0
    assert err == (
        "manyhands: the program has ended: the broker was started anew, without the program in its "
        "log\n"
    )
    eventually(lambda: not running.alive, SECONDS, what="its processes ended")


def test_a_node_that_is_drained_waits_for_members(hosts: Hosts) -> None:
    running = Running(hosts, "")
    hosts.nodes["a"].signal(signal.SIGTERM)
    eventually(lambda: has_left(hosts, "a"), SECONDS, what="the node drains")
    running.gate.open()
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")
    node = hosts.nodes["a"].process
    assert node is not None
    assert node.wait(SECONDS) == 0


def test_a_node_that_is_told_twice_does_not_wait(hosts: Hosts) -> None:
    running = Running(hosts, "")
    hosts.nodes["a"].signal(signal.SIGTERM)
    eventually(lambda: has_left(hosts, "a"), SECONDS, what="it has taken the first")
    hosts.nodes["a"].signal(signal.SIGTERM)
    node = hosts.nodes["a"].process
    assert node is not None
    node.wait(SECONDS)
    eventually(lambda: running.alive == 2, SECONDS, what="its members ended")
    running.script.kill()
    eventually(lambda: not running.alive, SECONDS, what="all ended")


def test_members_are_listed(hosts: Hosts) -> None:
    running = Running(hosts, "a")
    with Client(hosts.broker.address) as client:
        listed = client.query("ps")
    assert [(one["name"], one["node"], one["state"]) for one in listed] == [
        ("MainProcess", "a", "running"),
        *((f"Process-{n + 1}", running.places[n], "running") for n in range(4)),
    ]
    assert [one["pid"] for one in listed[1:]] == [one.pid for one in running.members]
    assert {one["program_name"] for one in listed} == {"script.py"}
    running.script.kill()
    eventually(lambda: not running.alive, SECONDS, what="all ended")


@pytest.mark.parametrize("hosts", ["long"], indirect=True)
def test_members_are_stopped_where_their_agent_stands_still(hosts: Hosts) -> None:
    running = Running(hosts, "")
    agent = agent_of(running, "a")
    here = [m for m, place in zip(running.members, running.places, strict=True) if place == "a"]
    agent.suspend()
    try:
        with Client(hosts.broker.address) as client:
            eventually(
                lambda: sum(one["code"] is None for one in client.query("ps")) == 3,
                SECONDS,
                what="the broker does not count them any more",
            )
        # It gives away what they hold at the end of the lease, a tenth of it after they are stopped.
        assert all(member.status() == psutil.STATUS_STOPPED for member in here)
    finally:
        agent.resume()
    eventually(
        lambda: running.alive == 2, SECONDS, what="they do not count any more, and were killed"
    )
    running.script.kill()
    eventually(lambda: not running.alive, SECONDS, what="all ended")


@pytest.mark.parametrize("hosts", ["short log"], indirect=True)
def test_members_that_were_stopped_go_on_when_the_broker_is_back(hosts: Hosts) -> None:
    running = Running(hosts, "")
    hosts.broker.kill()
    eventually(
        lambda: all(member.status() == psutil.STATUS_STOPPED for member in running.members),
        SECONDS,
        what="they were stopped",
    )
    hosts.broker.start()
    running.gate.open()
    assert running.codes() == "0 0 0 0"
    assert running.script.finish() == (0, "")


RUNS = 3


@pytest.mark.parametrize("host", ["", "a"])
def test_programs_leave_nothing_in_agents_and_broker(hosts: Hosts, host: str) -> None:
    pids: list[int] = []
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
            print("PIDS", *(p.pid for p in processes), flush=True)
            for process in processes:
                process.join()
            print("CODES", sum(p.exitcode for p in processes))
    """

    def run() -> None:
        script = Script(hosts.folder, text, address=hosts.broker.address, host=host)
        pids[:] = map(int, script.until("PIDS").split())
        assert script.until("CODES") == "-9"
        assert script.finish()[0] == 0

    def descriptors() -> dict[int, int]:
        nodes = [psutil.Process(node.pid) for node in hosts.nodes.values()]
        broker = psutil.Process(hosts.broker.pid)
        processes = [broker, *nodes, *(one for n in nodes for one in n.children(recursive=True))]
        found = {}
        for process in itertools.filterfalse(has_ended, processes):
            with contextlib.suppress(psutil.Error):
                found[process.pid] = process.num_fds()
        return found

    run()
    with Client(hosts.broker.address) as client:
        eventually(lambda: not client.query("ps"), SECONDS, what="the program is forgotten")
        # Members of the first run that have not quite ended are none of those that stay.
        eventually(lambda: all(map(has_ended, pids)), SECONDS, what="they have ended")
        before = descriptors()
        for _ in range(RUNS):
            run()
        eventually(lambda: not client.query("ps"), SECONDS, what="the programs are forgotten")

        def grown() -> dict[int, int]:
            # A descriptor that a process opens once and keeps is no leak; one for each run is.
            now = descriptors()
            return {pid: now[pid] - before[pid] for pid in now.keys() & before.keys()}

        eventually(lambda: max(grown().values()) < RUNS, SECONDS, what="descriptors are closed")
        eventually(lambda: descriptors().keys() == before.keys(), SECONDS, what="the same run")


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


def test_what_a_process_registers_for_its_end_runs_where_the_standard_library_runs_it(
    run: Run,
) -> None:
    script = run("""
        import atexit

        def work():
            atexit.register(print, "at the end", flush=True)
            print("work", flush=True)

        if __name__ == "__main__":
            atexit.register(print, "at the root's end")
            process = mp.Process(target=work)
            process.start()
            process.join()
            print("joined", process.exitcode)
    """)
    code, err = script.finish()
    assert code == 0, err
    ending = ["at the end"] if sys.version_info >= (3, 13) else []
    assert script.lines == ["work", *ending, "joined 0", "at the root's end"]


def test_what_comes_behind_the_end_finds_its_objects_lost_and_may_begin_anew(run: Run) -> None:
    script = run("""
        import atexit

        def late():
            for use in (queue.qsize, lambda: queue.put(3), mp.Lock().acquire, lock.acquire):
                try:
                    print(use())
                except OSError as error:
                    print(type(error).__name__, error)

        # Registered before the program begins, and so called behind its end.
        atexit.register(late)
        if __name__ == "__main__":
            queue, lock = mp.Queue(), mp.Lock()
            for _ in range(10):
                with lock:
                    pass  # it is delegated by now
            queue.put(1)
            print(queue._reader.fileno() > 0, queue.get())
    """)
    assert script.finish() == (0, "")
    lost = "SharedStateLost this Queue was lost: the program has ended"
    assert script.lines == ["True 1", lost, lost, "True", lost.replace("Queue", "Lock")]
