"""What tests of whole clusters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import manyhands


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
