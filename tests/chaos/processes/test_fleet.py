"""Fleets and clients that come and go: two of one name, scale-in, a hundred at once, early deaths."""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from harness.cluster.bench import Bench, counters, joined
from harness.cluster.ledger import Ledger, run
from harness.cluster.peers import Peer, Peers, node_hello, results_of
from harness.processes import eventually, without_waits
from manyhands_shared.protocol import messages as m

BOUND = 100.0
#: No node loses it for the sake of a busy machine.
LEASE = 100.0


def submit(bench: Bench, address: str, ledger: Ledger, count: int) -> None:
    """Submit `count` attached tasks."""
    ledger.hand_in_more(bench.executor(address), count, 0.01)


def drain(ledger: Ledger) -> None:
    """Wait until everything is delivered, and judge."""
    eventually(lambda: ledger.drained, BOUND, what="drained")
    print(ledger.judge())


def test_the_second_node_of_a_name_leaves_with_a_reason_and_the_first_works_on(
    bench: Bench,
) -> None:
    """Row 32."""
    ledger = Ledger(bench.folder)
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    first = bench.node(broker.address, "twin")
    joined(client, 1)
    submit(bench, broker.address, ledger, 100)
    (bench.folder / "other").mkdir()
    second = type(first)(bench.folder / "other", broker.address, "twin")
    bench.stack.callback(second.close)
    assert second.process is not None
    assert second.process.wait(BOUND) == 1
    [line] = without_waits(second.log).splitlines()
    assert "twin" in line
    drain(ledger)
    assert first.alive
    assert max(ledger.runs.values()) == 1


@pytest.mark.slow
def test_scale_in_during_work_loses_nothing_and_runs_nothing_twice(bench: Bench) -> None:
    """Row 39: SIGTERM drains."""
    ledger = Ledger(bench.folder)
    broker = bench.broker(lease=LEASE)
    client = bench.client(broker.address)
    for _ in range(4):
        bench.node(broker.address)
    joined(client, 4)
    submit(bench, broker.address, ledger, 600)
    for left, node in enumerate(bench.nodes[:3]):
        eventually(partial(ledger.has_delivered, 100 * (left + 1)), BOUND)
        node.signal(signal.SIGTERM)
        assert node.process is not None
        assert node.process.wait(BOUND) == 0
        assert without_waits(node.log) == ""
    drain(ledger)
    assert max(ledger.runs.values()) == 1
    counts = counters(client)
    assert counts.get("nodes_condemned", 0) == 0


@pytest.mark.slow
def test_a_hundred_nodes_come_back_at_once(bench: Bench) -> None:
    """Row 40: after a restart of the broker, each with its work in hand."""
    # These nodes renew nothing.
    broker = bench.broker(journal=str(bench.folder / "journal"), lease=600.0)
    count, tasks = 100, 1_000
    boots = [secrets.token_bytes(16) for _ in range(count)]
    with Peers() as connect:
        client = connect(broker.address)
        client.hello()
        client.submit("job", [b"a"] * tasks, durable=True)
        client.until(m.Accepted)
        nodes = {n: connect(broker.address) for n in range(count)}
        held: dict[int, list[m.AssignGroup]] = {n: [] for n in nodes}
        for n, node in nodes.items():
            node.send(node_hello(f"node-{n}", boots[n]))

        def all_have_some() -> bool:
            sweep(nodes, held, 0)
            return all(held.values())

        eventually(all_have_some, BOUND, interval=0)
        broker.kill()
        broker.start()
        for peer in (client, *nodes.values()):
            peer.close()
        nodes = {n: connect(broker.address) for n in range(count)}
        for n, node in nodes.items():
            holding = [m.Span(g.job, g.attempt, g.indices) for g in held[n]]
            node.send(node_hello(f"node-{n}", boots[n], holding))
        kept = {n: node.until(m.WorkerWelcome, BOUND).keep for n, node in nodes.items()}
        assert all(kept[n] for n in nodes if held[n]), "work in hand counts still"
        client = connect(broker.address)
        client.hello()
        client.send(m.Attach("job"))
        seqs = dict.fromkeys(nodes, 0)
        for n, node in nodes.items():
            for group in held[n]:
                seqs[n] += 1
                node.send(results_of(group, seqs[n]))
            held[n].clear()
        ended: dict[int, int] = {}

        def over() -> bool:
            sweep(nodes, held, 0)
            for n, node in nodes.items():
                for group in held[n]:
                    seqs[n] += 1
                    node.send(results_of(group, seqs[n]))
                held[n].clear()
            while isinstance(message := client.receive(), m.Message):
                if isinstance(message, m.Results):
                    for told in message.groups:
                        for index in told.indices:
                            assert index not in ended, "delivered twice"
                            ended[index] = told.attempt
                    client.send(m.Ack(message.seq))
            return len(ended) == tasks

        eventually(over, BOUND, interval=0, what="all delivered")


def sweep(nodes: dict[int, Peer], held: dict[int, list[m.AssignGroup]], timeout: float) -> None:
    """Read what has come to each node, and book what is assigned to it."""
    for n, node in nodes.items():
        while (message := node.receive(timeout)) is not None:
            if isinstance(message, m.Assign):
                held[n] += message.groups
            elif isinstance(message, m.Ping):
                node.send(m.Pong(message.counter))


def noted(ends: list[int], task: int, _: object) -> None:
    """Note that a future has ended."""
    ends.append(task)


@pytest.mark.slow
def test_cancelling_races_with_completion_and_with_the_death_of_children(bench: Bench) -> None:
    """Row 36: each task has one end, whichever it is, and every slot is free afterwards."""
    ledger = Ledger(bench.folder)
    rng = ledger.random
    broker = bench.broker(crash_limit=1_000, lease=LEASE)
    client = bench.client(broker.address)
    for _ in range(2):
        bench.node(broker.address)
    joined(client, 2)
    executor = bench.executor(broker.address)
    ends: list[int] = []
    futures = []
    for task in range(3_000):
        future = executor.submit(run, ledger.file, task)
        future.add_done_callback(partial(noted, ends, task))
        futures.append(future)
        if rng.random() < 0.3:
            futures[rng.randrange(len(futures))].cancel()
        if task % 300 == 150:
            kill_a_child(bench, rng)
    for future in rng.sample(futures, 200):
        future.cancel()
    for task, future in enumerate(futures):
        try:
            assert future.result(BOUND) == task
        except CancelledError:
            assert future.cancelled()
    eventually(lambda: len(ends) >= len(futures))
    assert sorted(ends) == list(range(len(futures))), f"seed {ledger.seed}"

    def at_rest() -> bool:
        """A client's calls may end before the broker hears that they are cancelled."""
        stats = client.query("stats")
        return (stats["active"], stats["queued"]) == (0, 0)

    eventually(at_rest, what="no slot is booked, nothing waits")
    # Slots that were booked twice, or never freed, would show here.
    assert [executor.submit(abs, -n).result(BOUND) for n in range(20)] == list(range(20))
    print(f"seed {ledger.seed}: {sum(f.cancelled() for f in futures)} of {len(futures)} cancelled")


def kill_a_child(bench: Bench, rng: random.Random) -> None:
    """SIGKILL a process of a node that is not the node."""
    with suppress(psutil.Error):  # it may be gone by itself
        servers = [p for p in rng.choice(bench.nodes).children if p.ppid() in pids(bench)]
        children = [child for server in servers for child in server.children()]
        if children:  # else the last one is being replaced
            rng.choice(children).kill()


def pids(bench: Bench) -> list[int]:
    """Of the nodes."""
    return [node.pid for node in bench.nodes]


UPLOADER = textwrap.dedent("""
    import sys
    import manyhands
    client = manyhands.Client(sys.argv[1])
    def arguments():
        for number in range(1_000_000):
            if number == 2_000:
                print("uploading", flush=True)
            yield bytes(10_000),
    client.submit_job(len, arguments())
""")

WAITER = textwrap.dedent("""
    import sys, time
    import manyhands
    executor = manyhands.Executor(address=sys.argv[1])
    future = executor.submit(time.sleep, 600)
    print("waiting", flush=True)
    future.result()
""")


@pytest.mark.slow
@pytest.mark.parametrize("script", [UPLOADER, WAITER], ids=["in mid-upload", "in mid-wait"])
def test_an_attached_client_that_dies_leaves_nothing(bench: Bench, script: str) -> None:
    """Row 37: what it submitted is cancelled once its grace time is over; nothing of it remains."""
    broker = bench.broker(session_grace=0.5, lease=LEASE)
    client = bench.client(broker.address)
    bench.node(broker.address)
    joined(client, 1)
    dying = subprocess.Popen([sys.executable, "-c", script, broker.address], stdout=subprocess.PIPE)
    with dying:
        assert dying.stdout is not None
        assert dying.stdout.readline()
        dying.kill()

    def nothing_left() -> bool:
        stats = client.query("stats")
        return [stats[name] for name in ("sessions", "queued", "active")] == [1, 0, 0]

    eventually(nothing_left, BOUND, what="its work is gone")
    executor = bench.executor(broker.address)
    assert executor.submit(abs, -1).result(BOUND) == 1


@pytest.mark.slow
def test_a_durable_job_outlives_the_client_that_died_before_it_was_complete(
    bench: Bench, tmp_path: Path
) -> None:
    """Row 37: the job can still be found, and completed by a client that knows its id."""
    # The node renews nothing.
    broker = bench.broker(journal=str(tmp_path / "journal"), session_grace=0.5, lease=600.0)
    with Peers() as connect:
        dying, node, heir = (connect(broker.address) for _ in range(3))
        dying.hello()
        dying.send(m.Function(bytes(16), "f", [b"code"]))
        half = m.SubmitGroup("job", bytes(16), {"durable": True}, 0, False, [b"a"] * 50)
        dying.send(m.Submit([half]))
        assert dying.until(m.Accepted).jobs == [m.JobCount("job", 50)]
        dying.close()
        heir.hello()
        eventually(
            lambda: heir.ask("stats")["sessions"] == 1, BOUND, what="the client is forgotten"
        )
        assert [job["tasks"] for job in heir.ask("jobs")] == [50]
        whole = m.SubmitGroup("job", bytes(16), {"durable": True}, 0, True, [b"a"] * 80)
        heir.send(m.Submit([whole]))
        assert heir.until(m.Accepted).jobs == [m.JobCount("job", 80)]
        heir.send(m.Attach("job"))
        node.send(node_hello("node", b"n" * 16, window=200))
        ended: list[int] = []
        seq = 0

        def over() -> bool:
            nonlocal seq
            message = node.receive()
            if isinstance(message, m.Assign):
                for group in message.groups:
                    seq += 1
                    node.send(results_of(group, seq))
            while (found := heir.receive()) is not None:
                if isinstance(found, m.Results):
                    ended.extend(index for group in found.groups for index in group.indices)
            return len(ended) >= 80

        eventually(over, BOUND, what="all delivered")
        assert sorted(ended) == list(range(80))
