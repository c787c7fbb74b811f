"""Nodes on machines that are short of memory: real heartbeats, and where tasks go."""

from __future__ import annotations

import manyhands
from harness.processes import eventually

BOUND = 110.0


def pressure(client: manyhands.Client) -> dict[str, str]:
    """By the names of nodes."""
    return {node["name"]: node["pressure"] for node in client.query("nodes")}


def test_a_node_that_is_short_of_memory_gets_nothing_new_and_comes_back() -> None:
    """It wants all of its memory available, and no machine has that."""
    with (
        manyhands.LocalCluster(nodes=1, slots=2, broker={"beat_interval": 0.2}) as cluster,
        manyhands.Client(cluster.address) as client,
    ):
        calm = eventually(lambda: client.query("nodes"), what="it is there")[0]["name"]
        cluster._worker_options["memory_reserve"] = 1.0
        cluster.add_node("short")
        eventually(lambda: pressure(client).get("short") == "memory", what="it is found out")
        assert pressure(client)[calm] != "memory"
        with manyhands.Executor(address=cluster.address) as executor:
            assert [executor.submit(abs, n).result(BOUND) for n in range(20)] == list(range(20))
            assert list(executor.map(abs, range(200))) == list(range(200))
        done = {node["name"]: node["done"] for node in client.query("nodes")}
        assert done["short"] == 0 < done[calm]
        events = [event for event in client.query("events") if event["kind"] == "memory-short"]
        assert [event["node"] for event in events] == ["short"]
        client.query("drain", node=calm)
        eventually(lambda: set(pressure(client)) == {"short"}, what="the other is gone")
        with manyhands.Executor(address=cluster.address) as executor:
            assert sum(1 for _ in executor.map(abs, range(50))) == 50, "now it takes what there is"
