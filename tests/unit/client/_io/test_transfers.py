"""Results that are mapped where they lie in a node, and what is done when it is short of memory."""

from __future__ import annotations

import gc
import os
import resource
import secrets
from collections.abc import Iterator

import pytest

from harness.threads import no_thread_left
from manyhands._io.poller import Poller
from manyhands._io.submit_queue import SubmitQueue
from manyhands._io.transfers import Transfers
from manyhands._session.effects import Fetch
from manyhands_shared import shm
from manyhands_shared.protocol.held_result import Server, Ticket

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")

_SIZE = 1 << 20


class Node:
    """What a node does about results that it holds."""

    def __init__(self) -> None:
        self.lender = shm.Lender(f"test-{secrets.token_hex(8)}")
        self.poller = Poller()
        self.client = Transfers(
            b"T" * 16, SubmitQueue(1, 1), self.poller, lambda message: None, keyed=False
        )
        self.freed: list[bytes] = []

    def result(self, content: bytes) -> memoryview:
        """A result that is fetched and taken."""
        fd, key = shm.new_segment(_SIZE), os.urandom(16)
        os.pwrite(fd, content * (_SIZE // len(content)), 0)

        def done() -> None:
            shm.forget(fd, _SIZE)  # as a node that is short of memory does
            assert os.pread(fd, 1, 0) == b"\0"
            self.freed.append(key)
            os.close(fd)

        self.lender.offer(key, fd, done)
        ticket = Ticket(shm.host_id(), self.lender.address, key, [_SIZE], None).encode()
        self.client.fetch(Fetch("job", 1, 0, ticket))
        self.turn()
        [fetched] = self.client.turn(self.poller.wait(100))
        self.lender.withdraw(key)
        assert isinstance(fetched.payload, tuple)
        return memoryview(fetched.payload[0])

    def turn(self) -> None:
        """Serve what has come."""
        self.lender.turn()
        self.lender.turn()

    def recall(self) -> None:
        """Ask for everything that is still lent."""
        self.lender.recall()
        self.client.turn(self.poller.wait(0))
        self.turn()


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.client.close()
    made.lender.close()


def test_a_result_that_is_recalled_stays_as_it_is_and_is_the_clients_own(node: Node) -> None:
    first, second = node.result(b"first!!!"), node.result(b"second!!")
    first[:5] = b"FIRST"
    assert not node.freed
    node.recall()
    assert len(node.freed) == 2
    assert bytes(first) == b"FIRST!!!" + b"first!!!" * (_SIZE // 8 - 1)
    assert bytes(second) == b"second!!" * (_SIZE // 8)
    first[5:8] = b"???"
    assert bytes(first[:8]) == b"FIRST???"
    del first, second
    gc.collect()
    node.turn()  # nothing is given back twice
    assert len(node.freed) == 2


def test_what_cannot_be_copied_stays_lent(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands_shared.shm.mapping._MADV_POPULATE_WRITE", 9999)
    kept = node.result(b"kept")
    node.recall()
    assert not node.freed
    assert bytes(kept[:4]) == b"kept"
    del kept
    gc.collect()
    node.turn()
    assert len(node.freed) == 1


def test_a_result_that_was_dropped_before_is_not_asked_for_again(node: Node) -> None:
    kept = node.result(b"kept")
    del kept
    gc.collect()
    node.turn()
    assert len(node.freed) == 1
    node.recall()
    assert len(node.freed) == 1


def test_more_results_than_may_be_mapped_are_copied(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands._io.transfers._MOST_MAPPED", 1)
    mapped, copied = node.result(b"mapped!!"), node.result(b"copied!!")
    node.turn()
    assert len(node.freed) == 1, "what is copied is given back at once"
    assert bytes(mapped[:8]) + bytes(copied[:8]) == b"mapped!!copied!!"


def test_without_a_thread_results_of_other_hosts_come_through_the_broker() -> None:
    client = Transfers(b"T" * 16, SubmitQueue(1, 1), Poller(), lambda message: None, keyed=True)
    server = Server("192.0.2.1", 9, b"k" * 32)
    wanted = Fetch("job", 1, 0, Ticket("elsewhere", "@lender", b"k" * 16, [_SIZE], server).encode())
    with no_thread_left():
        for _ in range(2):
            client.fetch(wanted)
            [fetched] = client.turn({})
            assert fetched.payload is None
    client.close()


def test_with_few_descriptors_results_of_other_hosts_come_through_the_broker() -> None:
    client = Transfers(b"T" * 16, SubmitQueue(1, 1), Poller(), lambda message: None, keyed=True)
    server = Server("192.0.2.1", 9, b"k" * 32)
    wanted = Fetch("job", 1, 0, Ticket("elsewhere", "@lender", b"k" * 16, [_SIZE], server).encode())
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(2)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, usual[1]))  # enough for a pipe, no more
    try:
        client.fetch(wanted)
        [fetched] = client.turn({})
        assert fetched.payload is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
    client.close()
