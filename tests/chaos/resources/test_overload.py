"""Too much of everything: the broker's memory stays bounded, and who does not listen harms himself."""

from __future__ import annotations

import pytest
import zmq

import manyhands
from harness.cluster.bench import Bench
from harness.cluster.peers import Peer, Peers, node_hello, results_of
from harness.processes import eventually
from manyhands_shared.protocol import messages as m

MIB = 1 << 20


def test_a_client_that_never_reads_does_not_fill_the_broker(bench: Bench) -> None:
    """Row 33: its tasks wait once it leaves `result_bytes` untaken, and no other client's do."""
    limit = 16 * MIB
    size = 256 << 10
    # The node renews nothing.
    broker = bench.broker(result_bytes=limit, lease=600.0)
    with Peers() as connect:
        node, other = connect(broker.address), connect(broker.address)
        # With small buffers of its own, what it does not read stays with the broker.
        deaf = connect(broker.address, rcvhwm=1, rcvbuf=8192)
        node.send(node_hello("node", b"n" * 16))
        node.until(m.WorkerWelcome)
        deaf.hello()
        deaf.submit("deaf", [b"a"] * 2_000)  # half a gibibyte of results
        other.hello()
        before = broker.rss
        seq = 0

        def answer(until: str) -> bool:
            """Be a node: run what comes; whether a job's task has come."""
            nonlocal seq
            message = node.receive(0.05)
            if isinstance(message, m.Ping):
                node.send(m.Pong(message.counter))
            if isinstance(message, m.Assign):
                for group in message.groups:
                    for index in group.indices:
                        seq += 1
                        one = m.AssignGroup(
                            group.job, group.attempt, group.function, {}, [index], [b""]
                        )
                        node.send(results_of(one, seq, b"x" * size))
                return any(group.job == until for group in message.groups)
            return False

        def held_back() -> bool:
            answer("-")
            return any("does not take" in line for line in other.ask("why", id="deaf"))

        eventually(held_back, interval=0, what="its tasks wait")
        other.submit("other", [b"a"])
        # What was on its way to the node comes before.
        eventually(lambda: answer("other"), interval=0, what="others go on")
        assert other.until(m.Results).groups[0].job == "other"
        assert held_back()
        grown = broker.rss - before
        print(f"the broker grew by {grown / MIB:.0f} MiB for {seq} results of {size >> 10} KiB")
        assert seq < 1_000, "it was given work as if it read"
        assert grown < 8 * limit


@pytest.mark.slow
def test_a_million_submissions_and_no_node(bench: Bench) -> None:
    """Row 34: what a session may have at the broker is bounded; the rest waits in the client."""
    window = 300_000
    broker = bench.broker(window_tasks=window)
    client = bench.client(broker.address)
    before = broker.rss
    crowd = bench.stack.enter_context(manyhands.Client(broker.address, max_pending=2_000_000))
    job = crowd.submit_job(abs, ((number,) for number in range(1_000_000)))
    # Both sessions are of one owner, and share the window.
    full = window // 2
    eventually(lambda: client.query("stats")["queued"] >= full, what="the window is full")
    grown = broker.rss - before
    queued = client.query("stats")["queued"]
    print(f"{queued} tasks at the broker of {job.tasks}: {grown / MIB:.0f} MiB")
    assert queued <= 2 * window
    assert grown < 1_000 * window
    # It is not merely patient: with all that in line, a task of another client is served at once.
    with Peers() as connect:
        node, other = connect(broker.address), connect(broker.address)
        other.hello()
        other.submit("urgent", [b"a"], priority=1)
        other.until(m.Accepted)
        node.send(node_hello("node", b"n" * 16, window=1))
        assert node.until(m.Assign).groups[0].job == "urgent"


def test_submissions_beyond_twice_the_window_are_refused(bench: Bench) -> None:
    """A client that does not keep to its window is told so, and the broker holds no more."""
    broker = bench.broker(window_tasks=1_000)
    with Peers() as connect:
        rude, polite = connect(broker.address), connect(broker.address)
        rude.hello()
        rude.submit("first", [b"a"] * 1_500)
        rude.until(m.Accepted)
        rude.submit("second", [b"a"] * 1_500)
        rejected = rude.until(m.Rejected)
        assert (rejected.job, rejected.first) == ("second", 0)
        assert "--window-tasks" in rejected.reason
        polite.hello()
        assert polite.ask("stats")["queued"] == 1_500


def test_a_peer_with_a_full_queue_is_kept_apart(bench: Bench) -> None:
    """A node that stops reading does not hold up the others."""
    broker = bench.broker(lease=600.0)
    with Peers() as connect:
        deaf: Peer = connect(broker.address, rcvhwm=1, rcvbuf=8192)
        client, node = connect(broker.address), connect(broker.address)
        deaf.send(node_hello("deaf", b"d" * 16, window=1_000))
        eventually(lambda: deaf.socket.poll(0), what="welcomed")
        client.hello()
        client.submit("large", [b"x" * MIB] * 30)
        client.until(m.Accepted)
        node.send(node_hello("node", b"n" * 16, window=10))
        group = node.until(m.Assign).groups[0]
        node.send(results_of(group, 1))
        assert client.until(m.Results).groups[0].job == "large"
        assert deaf.socket.get(zmq.EVENTS) & zmq.POLLIN
