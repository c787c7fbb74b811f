"""Where tasks go in a cluster of two hosts: to the host of their client, which has their arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cluster.hosts import BOUND, Keyed
from manyhands.testbed import Network
from manyhands_shared import shm


@pytest.fixture
def moved() -> Iterator[None]:
    """This process tells anew which host it is on, and afterwards again."""
    shm.host_id.cache_clear()
    yield
    shm.host_id.cache_clear()


def last(array: Any) -> float:
    return float(array[-1])


@pytest.mark.usefixtures("moved")
def test_large_arguments_stay_on_their_clients_host(
    network: Callable[[int], Network], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        keyed = Keyed(network(2), stack, tmp_path)
        home, other = keyed.network.hosts
        for host in (home, other):
            keyed.node(host)
        executor = keyed.connect(home)
        with home.inside():
            ref = executor.scatter(np.ones(20 << 17))
            for _ in range(10):
                assert executor.submit(last, ref).result(BOUND) == 1.0
        done = {node["name"]: node["done"] for node in keyed.client.query("nodes")}
        assert done == {home.name: 10, other.name: 0}
        assert not keyed.counters().get("values_relayed")
