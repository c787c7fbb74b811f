"""Where tasks go in a cluster of two hosts: to the host of their client, which has their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manyhands import Client, Executor, LocalCluster
from manyhands.testbed import Network
from manyhands_shared import loans
from support import eventually

BOUND = 40.0


@pytest.fixture
def moved() -> Iterator[None]:
    """This process tells anew which host it is on, and afterwards again."""
    loans.host_id.cache_clear()
    yield
    loans.host_id.cache_clear()


def last(array: Any) -> float:
    return float(array[-1])


@pytest.mark.usefixtures("moved")
def test_large_arguments_stay_on_their_clients_host(
    network: Callable[[int], Network], tmp_path: Path
) -> None:
    home, other = network(2).hosts
    key = str(tmp_path / "cluster.key")
    broker = {"bind": f"tcp://{home.address}:7711", "key_file": key, "create_key": True}
    with home.inside(), LocalCluster(nodes=0, broker=broker, worker={"key_file": key}) as cluster:
        for host in (home, other):
            with host.inside():
                cluster.add_node(host.name)
        with (
            Client(cluster.address, key_file=key) as client,
            Executor(address=cluster.address, key_file=key) as executor,
        ):
            eventually(lambda: len(client.query("nodes")) == 2, BOUND, what="both have joined")
            ref = executor.scatter(np.ones(20 << 17))
            for _ in range(10):
                assert executor.submit(last, ref).result(BOUND) == 1.0
            done = {node["name"]: node["done"] for node in client.query("nodes")}
            assert done == {home.name: 10, other.name: 0}
            assert not client.query("stats")["counters"].get("values_relayed")
