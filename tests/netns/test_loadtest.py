"""`manyhands loadtest --hosts`: a cluster of several hosts on this machine, and nothing of it left."""

from __future__ import annotations

import signal

import pytest

from harness.command import document, run, running
from harness.processes import eventually
from manyhands.testbed._names import NAMESPACES

pytestmark = pytest.mark.slow


def namespaces(pid: int) -> list[str]:
    """Of one owner."""
    return [entry.name for entry in NAMESPACES.iterdir() if f"-{pid}-" in entry.name]


def test_twice_the_hosts_do_twice_the_work() -> None:
    result = run("loadtest", "--hosts", "1,2", "--mix", "sleep:0.1", "--duration", "1.5",
                 "--warmup", "0.5", "--json")  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = document(result)
    one, two = found["scaling"]
    assert (one["hosts"], one["slots"], two["hosts"], two["slots"]) == (1, 2, 2, 4)
    assert 14 < one["throughput"] <= 20.5
    assert two["efficiency"] > 0.85
    names = [node["name"] for node in found["runs"][1]["steps"][0]["nodes"]]
    assert names == ["node-1", "node-2"]
    assert found["book"]["right"] == found["book"]["asked"] > 50


def test_interrupted_it_takes_the_hosts_away() -> None:
    with running("loadtest", "--hosts", "1", "--duration", "1h") as process:
        eventually(
            lambda: len(namespaces(process.pid)) == 4, what="switch and three hosts are there"
        )
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert namespaces(process.pid) == []
