"""What is loaded: a cluster that is there, one of this machine's own, or one of many hosts on it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from manyhands import Client, LocalCluster
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.text import amount

#: How long nodes may take to join, in all and for each.
_JOIN_SECONDS = 30.0
_JOIN_SECONDS_EACH = 3.0
_PORT = 7711


@dataclass(frozen=True)
class Target:
    """A cluster under load.

    Attributes:
        kind: ``cluster``, ``local`` or ``hosts``.
        label: for people.
        address: of the broker.
        key_file: of the cluster, or empty.
        place: entered around whatever connects to it.
        broker_pid: 0 where the broker is not this load test's.
        hosts: with nodes, of the test-bed; 0 without.
        connect_timeout: seconds within which the broker must be reached.
    """

    kind: str
    label: str
    address: str
    key_file: str
    place: Callable[[], AbstractContextManager[None]] = field(default=contextlib.nullcontext)
    broker_pid: int = 0
    hosts: int = 0
    connect_timeout: float = 10.0

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A session to ask questions with."""
        with self.place():
            client = Client(
                self.address,
                key_file=self.key_file or None,
                name="loadtest",
                connect_timeout=self.connect_timeout,
            )
        with client:
            yield client


@contextmanager
def named(address: str, key_file: str, connect_timeout: float) -> Iterator[Target]:
    """A cluster that runs already."""
    label = f"the cluster at {address}"
    yield Target("cluster", label, address, key_file, connect_timeout=connect_timeout)


@contextmanager
def local(slots: int | None) -> Iterator[Target]:
    """A cluster of one node on this machine, for as long as this lasts."""
    with _ended(LocalCluster(nodes=0, slots=slots)) as cluster:
        cluster.add_node()
        label = "a cluster of one node on this machine"
        target = Target("local", label, cluster.address, "", broker_pid=_broker(cluster))
        _joined(target, 1)
        yield target


@contextmanager
def hosts(count: int, slots: int) -> Iterator[Target]:
    """Yield a keyed cluster of `count` hosts with a node each, and two more for broker and clients.

    Raises:
        ManyhandsError: there can be no network namespaces here, or the nodes do not join.
    """
    from manyhands.testbed import Network  # noqa: PLC0415 - most load tests need none

    with ExitStack() as stack:
        network = stack.enter_context(Network(count + 2))
        home, office, *others = network.hosts
        key_file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "cluster.key"
        key = str(key_file)
        with home.inside():
            cluster = LocalCluster(
                nodes=0,
                slots=slots,
                broker={
                    "bind": f"tcp://{home.address}:{_PORT}",
                    "key_file": key,
                    "create_key": True,
                },
                worker={"key_file": key},
            )
        stack.enter_context(_ended(cluster))
        for host in others:
            with host.inside():
                cluster.add_node(f"node-{host.index - 1}")
        label = f"{amount(count, 'host')} on this machine's test-bed"
        target = Target(
            "hosts",
            label,
            cluster.address,
            key,
            place=office.inside,
            broker_pid=_broker(cluster),
            hosts=count,
        )
        _joined(target, count)
        yield target


@contextmanager
def _ended(cluster: LocalCluster) -> Iterator[LocalCluster]:
    """Close it without waiting for tasks: after a load test no caller wants them."""
    try:
        yield cluster
    finally:
        cluster.close(drain=False)


def _broker(cluster: LocalCluster) -> int:
    return cluster.broker.pid if cluster.broker is not None else 0


def _joined(target: Target, count: int) -> None:
    with target.client() as client:
        try:
            client.wait_for_nodes(count, _JOIN_SECONDS + _JOIN_SECONDS_EACH * count)
        except TimeoutError as error:
            raise ManyhandsError(f"the load test cannot begin: {error}") from None
