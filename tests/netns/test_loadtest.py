"""`manyhands loadtest --hosts`: a cluster of several hosts on this machine, and nothing of it left."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from harness.command import document, run, running
from harness.processes import eventually
from manyhands.testbed._names import NAMESPACES

pytestmark = pytest.mark.slow


def namespaces(pid: int) -> list[str]:
    """Of one owner."""
    return [entry.name for entry in NAMESPACES.iterdir() if f"-{pid}-" in entry.name]


def measured(seconds: str) -> dict[str, Any]:
    """What a load test finds on one host and on two, measured for `seconds`."""
    result = run("loadtest", "--hosts", "1,2", "--mix", "sleep:0.1", "--duration", seconds,
                 "--warmup", "0.5", "--json")  # fmt: skip
    assert result.returncode == 0, result.stderr
    return document(result)


def test_each_host_does_its_share() -> None:
    """How much that is depends on the machine: at most ten tasks a second in each slot.

    And what was done in the half second before, and noted late.
    """
    # A busy machine may do none of it in a short time.
    for seconds in ("1.5", "6", "24"):
        found = measured(seconds)
        one, two = found["scaling"]
        nodes = found["runs"][1]["steps"][0]["nodes"]
        if one["throughput"] and nodes and all(node["share"] for node in nodes):
            break
    assert (one["hosts"], one["slots"], two["hosts"], two["slots"]) == (1, 2, 2, 4)
    assert 0 < one["throughput"] <= 30
    assert 0 < two["throughput"] <= 60
    assert two["efficiency"] == pytest.approx(two["throughput"] / one["throughput"] / 2, rel=0.01)
    assert [node["name"] for node in nodes] == ["node-1", "node-2"]
    assert all(node["share"] > 0 for node in nodes)
    assert found["book"]["right"] == found["book"]["asked"] > 0


def test_interrupted_it_takes_the_hosts_away() -> None:
    with running("loadtest", "--hosts", "1", "--duration", "1h") as process:
        eventually(
            lambda: len(namespaces(process.pid)) == 4, what="switch and three hosts are there"
        )
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert namespaces(process.pid) == []
