"""A fleet of several Pythons: all join and are shown, and each gets only work that it can run."""

from __future__ import annotations

import platform
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import manyhands
from harness.cluster.bench import Bench, bench, joined
from harness.environments.other_python import other_python
from harness.processes import eventually
from manyhands_shared.errors import RemoteError
from manyhands_shared.protocol import labels

__all__ = ["bench"]


@pytest.fixture(scope="module")
def other() -> Path:
    return other_python()


def test_functions_by_value_go_to_their_own_python_and_others_everywhere(
    bench: Bench, other: Path
) -> None:
    address = bench.broker().address
    bench.node(address, "foreign", python=other)
    bench.node(address, "alike")
    client = bench.client(address)
    joined(client, 2)
    pythons = {node["name"]: node["python"] for node in client.query("nodes")}
    assert pythons["alike"] == platform.python_version()
    assert pythons["foreign"].startswith(f"{other.parent.parent.name.removeprefix('other-')}.")

    def version(_: int) -> tuple[int, ...]:
        return tuple(sys.version_info[:2])

    executor = bench.executor(address)
    found = {future.result(60) for future in [executor.submit(version, n) for n in range(60)]}
    assert found == {sys.version_info[:2]}
    # By reference it runs on both: there is work enough for two nodes of one slot each.
    waits = [executor.submit(platform.python_version) for _ in range(2)]
    both = {future.result(60) for future in waits}

    def more() -> bool:
        both.update(f.result(60) for f in [executor.submit(platform.python_version) for _ in "12"])
        return len(both) == 2

    eventually(more, what="both Pythons had some")
    assert both == set(pythons.values())


def test_work_that_nobody_can_run_says_why_and_begins_when_somebody_comes(
    bench: Bench, other: Path
) -> None:
    address = bench.broker().address
    bench.node(address, "foreign", python=other)
    client = bench.client(address)
    joined(client, 1)
    job = client.submit_job(lambda: 7, [()])
    eventually(lambda: client.query("jobs"))
    [reason] = job.why()
    assert (
        f"no node runs Python {labels.PYTHON}, which its function, sent by value, needs" in reason
    )
    assert "nodes by their Python: 3." in reason
    [node] = client.query("nodes")
    assert node["lacks"] == [labels.python()]
    bench.node(address, "alike")
    assert job.results() == [7]


def test_code_by_value_among_arguments_fails_its_task_and_crashes_nothing(
    bench: Bench, other: Path
) -> None:
    address = bench.broker().address
    bench.node(address, "foreign", python=other)
    executor = manyhands.Executor(address=address)
    with executor:
        futures: list[Future[Any]] = [
            executor.submit(map, lambda x: x, [1]),
            executor.submit(divmod, 17, 5),
        ]
        with pytest.raises(RemoteError, match="by value, from or for another Python"):
            futures[0].result(60)
        assert futures[1].result(60) == (3, 2)
    # No child died of it.
    client = bench.client(address)
    assert "events_child-died" not in client.query("stats")["counters"]
