"""Stragglers on a real cluster: the end of a job does not wait for a machine that hangs."""

from __future__ import annotations

import os
import threading
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

import manyhands
from harness import command
from harness.processes import eventually, has_ended

BOUND = 110.0


def meet(place: Path, count: int) -> int:
    """Wait until `count` tasks are here, each in a process of its own; return how many there are."""
    np.zeros(1)
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    return eventually(
        lambda: len(list(place.iterdir())) >= count and len(list(place.iterdir())),
        BOUND,
        what="the other processes",
    )


class Straggler:
    """A task that hangs in its first run, and in any other until the test opens the gate."""

    def __init__(self, place: Path) -> None:
        self.first = place / "first"
        self.gate = place / "gate"
        os.mkfifo(self.gate)

    def __call__(self, number: int, count: int) -> np.ndarray:
        if not number:
            try:
                with self.first.open("x") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                self.gate.read_text()
            else:
                threading.Event().wait()
        return np.full(count, number)

    @property
    def hanging(self) -> int:
        """The process that hangs."""
        return int(self.first.read_text())

    def open(self) -> None:
        """Have the second run go on, once it is there."""
        eventually(self._is_open, BOUND, what="a second run")

    def _is_open(self) -> bool:
        try:
            os.close(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # no task has opened it for reading
            return False
        return True


@pytest.mark.parametrize("count", [1, 1_000_000])
def test_a_task_that_hangs_on_one_node_ends_on_another(
    cluster: manyhands.LocalCluster, client: manyhands.Client, tmp_path: Path, count: int
) -> None:
    straggler = Straggler(tmp_path)
    with manyhands.Executor(address=cluster.address) as executor:
        # Both have their process and NumPy loaded. Else the second run might be the first to begin.
        nodes = [executor.submit(meet, tmp_path / "meeting", 2) for _ in range(2)]
        assert {node.result(BOUND) for node in nodes} == {2}
    with manyhands.Executor(address=cluster.address, speculative=True) as executor:
        futures = [executor.submit(straggler, number, count) for number in range(8)]
        assert not wait(futures[1:], BOUND).not_done
        [job] = [job for job in client.query("jobs") if job["tasks"] == 8]
        job = eventually(lambda: (seen := client.query("job", id=job["id"]))["copies"] and seen)
        assert job["active"] == 1
        # On a busy machine others may have been slow before, and had a second run as well.
        others = job["speculated"] - 1
        assert others >= 0
        assert "second node" in " ".join(client.query("why", id=job["id"]))
        shown = command.run("show", job["id"], "--broker", cluster.address)
        assert "copies" in shown.stdout, shown
        straggler.open()
        for number, future in enumerate(futures):
            result = future.result(BOUND)
            assert (len(result), result[0], result[-1]) == (count, number, number)
        eventually(lambda: has_ended(straggler.hanging), what="the loser is killed")
        eventually(lambda: not any(node["active"] for node in client.query("nodes")))
        counters = client.query("stats")["counters"]
        assert counters["tasks_speculated"] == 1 + others
        assert 1 <= counters["speculations_won"] <= 1 + others
        assert counters["tasks_done"] == 10
        assert counters.get("stale_results", 0) <= others
        # Both nodes take work again.
        assert [executor.submit(abs, -n).result(BOUND) for n in range(20)] == list(range(20))


def test_the_command_takes_the_option(cluster: manyhands.LocalCluster) -> None:
    done = command.run("run", "--broker", cluster.address, "--speculative", "math:sqrt", "9")
    assert done.stdout == "3.0\n", done
    both = command.run(
        *("run", "--broker", cluster.address, "--speculative", "--at-most-once", "math:sqrt", "9")
    )
    assert "leave one out" in command.fails(both, 2)
