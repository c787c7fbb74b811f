"""What the tests of security share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.cluster.bench import Bench, bench
from harness.cluster.keyed import Keyed
from harness.cluster.peers import Peers

__all__ = ["bench"]


@pytest.fixture
def peers() -> Iterator[Peers]:
    with Peers() as made:
        yield made


@pytest.fixture
def keyed(bench: Bench, peers: Peers) -> Keyed:
    return Keyed(bench, peers, lease=100.0, journal=str(bench.folder / "journal"))
