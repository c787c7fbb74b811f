"""Real processes on two hosts use one object; meanwhile processes, the broker or the links between fail.

What they did must be linearizable. See `harness.linearizability` for what that is, and
`harness.cluster.history_program` for what they do. `make histories` has them do 10,000 operations on
each kind of object.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import pytest

from harness import linearizability
from harness.cluster import history_program
from harness.cluster.bench import Bench
from harness.cluster.programs import PROGRAM_SECONDS, TwoHosts, finished, start_root
from harness.cluster.relay import DOWN, UP, Relay
from harness.linearizability import Operation, Step, linearizable, queue_faults

PROCESSES = 6
OPERATIONS = int(os.environ.get("MANYHANDS_TEST_OPERATIONS", "2000"))
#: Between two kills of the broker, or two partitions.
FAULT_SECONDS = 0.2
#: How long a partition lasts, and the lease of nodes and agents, which it is far from.
PART_SECONDS = 0.2
LEASE = 60.0
#: A lease that a partition outlasts, and that a host which is not parted keeps on a busy machine.
SHORT_LEASE = 8.0

#: What goes wrong; it ends early when the program is over.
Fault = Callable[[threading.Event], object]


def run(
    two_hosts: TwoHosts,
    kind: str,
    rounds: int,
    kills: int,
    faults: Sequence[Fault] = (),
    *,
    pause: int = 0,
    end: Callable[[subprocess.Popen[str]], str] = finished,
) -> None:
    """Run the program, and have faults happen meanwhile, as long as it lasts.

    Its processes pause for `pause` milliseconds between two rounds.
    """
    program = str(Path(history_program.__file__))
    root = start_root(
        [program, kind, str(two_hosts.folder), str(rounds), str(PROCESSES), str(kills), str(pause)],
        two_hosts.broker.address,
    )
    over = threading.Event()

    def harm() -> None:
        while len(list(two_hosts.folder.glob("p*.jsonl"))) < PROCESSES and not over.wait(0.05):
            pass
        for fault in faults:
            if over.wait(FAULT_SECONDS):
                return
            fault(over)

    harming = threading.Thread(target=harm)
    harming.start()
    try:
        assert end(root) == "done\n"
    finally:
        over.set()
        harming.join()


def restart(over: threading.Event, two_hosts: TwoHosts) -> None:
    """Kill the broker, and start it again."""
    del over
    two_hosts.broker.kill()
    two_hosts.broker.start()


def partitions(relay: Relay) -> list[Fault]:
    """Return all ways to part the other host from the broker for less than its lease."""

    def hold(over: threading.Event, ways: Sequence[str]) -> None:
        # What is sent meanwhile comes later.
        relay.hold(*ways)
        over.wait(PART_SECONDS)
        relay.open()

    def cut(over: threading.Event, ways: Sequence[str]) -> None:
        # What is sent meanwhile is lost, with the connection.
        relay.swallow(*ways)
        over.wait(PART_SECONDS)
        relay.reset()
        relay.open()

    return [
        partial(part, ways=ways) for ways in ((UP,), (DOWN,), (UP, DOWN)) for part in (hold, cut)
    ]


def lose(over: threading.Event, two_hosts: TwoHosts) -> None:
    """Part the other host from the broker until its lease is over: its processes are lost."""
    two_hosts.relay.swallow(UP, DOWN)
    lost = "the host agent of node b lost its lease"
    while lost not in two_hosts.broker.log and not over.wait(0.1):
        pass
    two_hosts.relay.reset()
    two_hosts.relay.open()


def end_of_any(root: subprocess.Popen[str]) -> str:
    """Wait for the end of a program that lost processes; return what it printed."""
    try:
        return root.communicate(timeout=PROGRAM_SECONDS)[0]
    finally:
        root.kill()
        root.wait()


def lost(folder: Path) -> list[Operation]:
    """Return the deaths of processes that were lost with their host: they may have died at any time."""
    found = []
    for file in folder.glob("p*.jsonl"):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        if rows and not any(row.get("name") == "end" for row in rows):
            found.append(Operation(file.stem, "die", None, rows[0]["at"]))
    return found


def history(folder: Path) -> list[Operation]:
    """Return what all processes did; what was killed never returned."""
    found: list[Operation] = []
    for file in folder.glob("*.jsonl"):
        calls: dict[int, Any] = {}
        for line in file.read_text().splitlines():
            row = json.loads(line)
            calls.setdefault(row.get("call") or row.get("end"), []).append(row)
        for call, *ends in calls.values():
            returned, result = (ends[0]["at"], ends[0]["result"]) if ends else (inf, None)
            if call["name"] == "die":
                found.append(Operation(call["argument"], "die", None, call["at"], returned))
            elif call["name"] != "end":
                name, argument = call["name"], call["argument"]
                found.append(
                    Operation(call["process"], name, argument, call["at"], returned, result)
                )
    return found


SPECIFICATIONS: dict[str, tuple[Step, Hashable]] = {
    "lock": (linearizability.lock, ("", 0)),
    "semaphore": (linearizability.semaphore, 3),
    "event": (linearizability.event, False),
}


@pytest.mark.parametrize("kind", ["lock", "semaphore", "event", "queue"])
@pytest.mark.parametrize("harmed", ["members", "broker", "links"])
def test_histories_are_linearizable(bench: Bench, kind: str, harmed: str) -> None:
    two_hosts = TwoHosts(bench, relayed=harmed == "links", lease=LEASE)
    rounds = OPERATIONS // PROCESSES // 2
    kills = 4 if harmed == "members" else 0
    faults: Sequence[Fault] = ()
    if harmed == "broker":
        faults = 4 * [partial(restart, two_hosts=two_hosts)]
    elif harmed == "links":
        faults = partitions(two_hosts.relay)
    run(two_hosts, kind, rounds, kills, faults)
    judge(kind, history(two_hosts.folder), kills)


def judge(kind: str, done: list[Operation], kills: int) -> None:
    """Check that an object can have done this."""
    print(f"{len(done)} operations")
    if kind == "queue":
        assert queue_faults(done) == []
    else:
        step, initial = SPECIFICATIONS[kind]
        if kind == "semaphore":
            initial = 3 + kills
        assert linearizable(done, initial, step)


@pytest.mark.parametrize("harmed", ["broker", "links"])
def test_a_barrier_opens_for_all_of_a_generation(bench: Bench, harmed: str) -> None:
    two_hosts = TwoHosts(bench, relayed=harmed == "links", lease=LEASE)
    if harmed == "broker":
        run(two_hosts, "barrier", 300, 0, 4 * [partial(restart, two_hosts=two_hosts)])
    else:
        run(two_hosts, "barrier", 300, 0, partitions(two_hosts.relay))
    waits: dict[str, list[Operation]] = {}
    for one in sorted(history(two_hosts.folder), key=lambda one: one.called):
        if one.name == "wait":
            waits.setdefault(one.process, []).append(one)
    assert {len(one) for one in waits.values()} == {300}
    for generation in zip(*waits.values(), strict=True):
        assert sorted(one.result for one in generation) == [*range(PROCESSES)]
        # None went on before all were there.
        assert max(one.called for one in generation) <= min(one.returned for one in generation)


def test_what_a_lost_host_did_is_linearizable_too(bench: Bench) -> None:
    two_hosts = TwoHosts(bench, relayed=True, lease=SHORT_LEASE)
    faults = [partial(lose, two_hosts=two_hosts)]
    # None is done before its host is parted.
    run(two_hosts, "lock", 200, 0, faults, pause=10, end=end_of_any)
    deaths = lost(two_hosts.folder)
    judge("lock", history(two_hosts.folder) + deaths, 0)
    # Half of the processes were on that host.
    assert len(deaths) == PROCESSES // 2
