"""Real processes on two hosts use one object; processes and the broker are killed meanwhile.

What they did must be linearizable. See `harness.linearizability` for what that is, and
`harness.cluster.history_program` for what they do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Hashable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from harness import linearizability
from harness.cluster import history_program
from harness.cluster.bench import Bench
from harness.cluster.programs import TwoHosts, finished, start_root
from harness.linearizability import Operation, Step, linearizable, queue_faults

PROCESSES = 6
#: Between two kills of the broker.
BROKER_SECONDS = 1.0


def run(two_hosts: TwoHosts, kind: str, rounds: int, kills: int, broker_kills: int) -> None:
    """Run the program, and kill the broker meanwhile."""
    program = str(Path(history_program.__file__))
    root = start_root(
        [program, kind, str(two_hosts.folder), str(rounds), str(PROCESSES), str(kills)],
        two_hosts.broker.address,
    )
    over = threading.Event()

    def kill() -> None:
        while len(list(two_hosts.folder.glob("p*.jsonl"))) < PROCESSES and not over.wait(0.05):
            pass
        for _ in range(broker_kills):
            if over.wait(BROKER_SECONDS):
                return
            two_hosts.broker.kill()
            two_hosts.broker.start()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert finished(root) == "done\n"
    finally:
        over.set()
        killer.join()


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
@pytest.mark.parametrize(("kills", "broker_kills"), [(4, 0), (0, 4)], ids=["members", "broker"])
def test_histories_are_linearizable(bench: Bench, kind: str, kills: int, broker_kills: int) -> None:
    two_hosts = TwoHosts(bench)
    rounds = 10_000 // PROCESSES // 2
    run(two_hosts, kind, rounds, kills, broker_kills)
    done = history(two_hosts.folder)
    print(f"{len(done)} operations")
    if kind == "queue":
        assert queue_faults(done) == []
    else:
        step, initial = SPECIFICATIONS[kind]
        if kind == "semaphore":
            initial = 3 + kills
        assert linearizable(done, initial, step)


def test_a_barrier_opens_for_all_of_a_generation_under_kills_of_the_broker(bench: Bench) -> None:
    two_hosts = TwoHosts(bench)
    run(two_hosts, "barrier", 300, 0, 4)
    waits: dict[str, list[Operation]] = {}
    for one in sorted(history(two_hosts.folder), key=lambda one: one.called):
        if one.name == "wait":
            waits.setdefault(one.process, []).append(one)
    assert {len(one) for one in waits.values()} == {300}
    for generation in zip(*waits.values(), strict=True):
        assert sorted(one.result for one in generation) == [*range(PROCESSES)]
        # None went on before all were there.
        assert max(one.called for one in generation) <= min(one.returned for one in generation)
