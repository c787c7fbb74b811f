"""A client of the module's cluster; and brokers of their own, for tests that end them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.cluster.bench import bench
from manyhands import Client, LocalCluster

__all__ = ["bench"]


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster.address) as connected:
        yield connected
