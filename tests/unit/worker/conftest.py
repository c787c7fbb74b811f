"""Fixtures of the node's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.brokers.node_broker import FakeBroker, NodeProcess
from harness.pool.pool_rig import PoolRig
from harness.worlds.worker import World


@pytest.fixture
def rig() -> Iterator[Callable[..., PoolRig]]:
    """Makes pools, and closes them."""
    rigs: list[PoolRig] = []

    def make(slots: int = 1, slab_bytes: int = 4 << 20, **options: Any) -> PoolRig:
        rigs.append(PoolRig(slots, slab_bytes, **options))
        return rigs[-1]

    yield make
    for each in rigs:
        each.pool.close()
        each.selector.close()


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Makes a core, its pool and a broker that has welcomed it."""

    def make(slots: int = 2, **others: Any) -> World:
        made = World(slots, **others)
        made.connect()
        return made

    return make


@pytest.fixture
def fresh_world() -> World:
    """A core without a link."""
    return World()


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A broker on a free port of this machine."""
    fake = FakeBroker()
    yield fake
    fake.close()
    fake.context.term()


@pytest.fixture
def start_node(broker: FakeBroker) -> Iterator[Callable[..., NodeProcess]]:
    """Starts nodes of that broker, and ends them."""
    nodes: list[NodeProcess] = []

    def start(**options: Any) -> NodeProcess:
        nodes.append(NodeProcess(broker.address, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


@pytest.fixture
def node(broker: FakeBroker, start_node: Callable[..., NodeProcess]) -> NodeProcess:
    """A node of one slot that the broker has welcomed."""
    node = start_node()
    broker.welcome()
    return node
