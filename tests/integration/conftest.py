"""What tests of whole clusters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import manyhands
from harness.processes import eventually
from manyhands_shared import shm


@pytest.fixture
def cluster() -> Iterator[manyhands.LocalCluster]:
    """Two nodes of one slot; a test module that wants another starts its own."""
    with manyhands.LocalCluster(nodes=2, slots=1) as started:
        yield started


@pytest.fixture
def executor(cluster: manyhands.LocalCluster) -> Iterator[manyhands.Executor]:
    """An executor of the cluster."""
    with manyhands.Executor(address=cluster.address) as started:
        yield started


@pytest.fixture
def elsewhere(
    cluster: manyhands.LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[manyhands.Executor]:
    """An executor on another host than both nodes, which therefore cannot borrow its values."""
    monkeypatch.setattr(shm, "host_id", lambda: "elsewhere")
    with manyhands.Executor(address=cluster.address) as started:
        yield started


@pytest.fixture
def client(cluster: manyhands.LocalCluster) -> Iterator[manyhands.Client]:
    """A client to ask questions with; all nodes have joined."""
    with manyhands.Client(cluster.address) as connected:
        eventually(lambda: len(connected.query("nodes")) == len(cluster.nodes), what="nodes joined")
        yield connected
