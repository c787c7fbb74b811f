"""A cluster that the tests of the command share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.processes import eventually
from manyhands import Client, LocalCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """One node with two slots."""
    with LocalCluster(nodes=1, slots=2) as running:
        with Client(running.address) as client:
            eventually(lambda: client.query("nodes"), what="the node has joined")
        yield running


@pytest.fixture
def named(cluster: LocalCluster) -> dict[str, str]:
    """The environment in which the command finds that cluster."""
    return {"MANYHANDS_BROKER": cluster.address}
