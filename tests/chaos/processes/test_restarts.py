"""Brokers killed at any moment: what was acknowledged is delivered, and once.

The moments are drawn at random while submissions, commits, results and acknowledgements run without
a pause. So they fall before, within and after commits alike.
"""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import Future
from functools import partial

import pytest

from harness.cluster.bench import Bench, joined
from harness.cluster.customer import Customer
from harness.cluster.ledger import Ledger, run
from harness.cluster.parts import Broker
from harness.cluster.peers import Peers
from harness.processes import eventually
from manyhands_shared.protocol import messages as m

RESTARTS = 50
BOUND = 120.0
#: Calls that may be under way at once.
PENDING = 200
#: Tasks of a durable job.
BATCH = 10


class Load:
    """Attached calls without a pause, and when their results came."""

    def __init__(self, bench: Bench, address: str, ledger: Ledger) -> None:
        self.ledger = ledger
        self._executor = bench.executor(address, max_pending=PENDING, connect_timeout=120)
        self.ended = 0
        self._running = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        task = 0
        while self._running:
            future = self.ledger.hand_in(self._executor, run, task)
            future.add_done_callback(partial(self._ended, task))
            task += 1

    def _ended(self, task: int, future: Future[int]) -> None:
        # What fails is in the ledger.
        if not future.cancelled() and future.exception() is None:
            self.ended += 1
            if future.result() != task:
                self.ledger.fail(f"task {task}", AssertionError("the result of another task"))

    def has_ended(self, count: int) -> bool:
        """Whether `count` calls have given what they should."""
        self.ledger.check()
        return self.ended >= count

    def finish(self) -> None:
        """Submit no more, and wait for everything."""
        self._running = False
        self._thread.join()
        eventually(lambda: self.ledger.drained, BOUND, what="drained")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_under_load_lose_nothing_and_recover_in_time(bench: Bench) -> None:
    durable, attached = (Ledger(bench.folder / name) for name in made(bench, "durable", "attached"))
    # Nodes may lose their leases on a busy machine, which is no fault of their tasks.
    broker = bench.broker(journal=str(bench.folder / "journal"), lease=60.0, crash_limit=1_000)
    for _ in range(2):
        bench.node(broker.address)
    joined(bench.client(broker.address), 2)
    pause = threading.Event()
    recoveries, outages = [], []
    with Customer(broker.address, durable, batch=BATCH, ahead=5) as customer:
        load = Load(bench, broker.address, attached)
        try:
            eventually(partial(load.has_ended, 2_000), BOUND, what="the load is under way")
            for _ in range(RESTARTS):
                pause.wait(durable.random.uniform(0.0, 0.3))
                broker.kill()
                killed = time.monotonic()
                broker.start()
                listening = time.monotonic()
                # More than may be under way at once: the last of them was handed in afterwards.
                goal = load.ended + 2 * PENDING
                eventually(partial(load.has_ended, goal), BOUND, what="calls end again")
                recoveries.append(time.monotonic() - listening)
                outages.append(time.monotonic() - killed)
        finally:
            customer.finish()
            load.finish()
        eventually(lambda: customer.drained, BOUND, what="durable jobs drained")
    # How soon that is depends on the machine. What decides is how often lost links are tried again:
    # see the tests of links.
    print(
        f"{2 * PENDING} calls ended within {max(recoveries):.2f} s of listening "
        f"(median {statistics.median(recoveries):.2f}), {max(outages):.2f} s of the kill "
        f"(median {statistics.median(outages):.2f})"
    )
    print("durable:", durable.judge())
    print("attached:", attached.judge())
    assert len(durable.acknowledged) > RESTARTS


def made(bench: Bench, *names: str) -> tuple[str, ...]:
    """Folders of these names."""
    for name in names:
        (bench.folder / name).mkdir()
    return names


@pytest.mark.slow
def test_a_broker_that_acknowledges_before_it_commits_is_caught(bench: Bench) -> None:
    """The same load, and a broker with its promise broken on purpose: the ledger must see it."""
    ledger = Ledger(bench.folder)
    broker = bench.broker(
        module="chaos.hasty_broker",
        journal=str(bench.folder / "journal"),
        lease=60.0,
        crash_limit=1_000,
    )
    bench.node(broker.address)
    with Customer(broker.address, ledger, batch=BATCH, ahead=5) as customer:
        # One is enough, unless its moment is just behind a commit.
        for _ in range(RESTARTS):
            goal = len(ledger.acknowledged) + 100
            eventually(partial(ledger.has_acknowledged, goal), BOUND, what="jobs are taken")
            broker.kill()
            broker.start()
            if forgets(broker, ledger):
                break
        customer.finish()
        with pytest.raises(AssertionError, match="lost"):
            ledger.judge()


def forgets(broker: Broker, ledger: Ledger) -> bool:
    """Whether the broker knows a job no more that it has acknowledged and not delivered."""
    missing = ledger.acknowledged - ledger.delivered.keys()
    with Peers() as connect:
        peer = connect(broker.address)
        peer.hello()
        for first in {task - task % BATCH for task in missing}:
            peer.send(m.Query(1, "job", {"id": f"job-{ledger.seed}-{first}"}))
            if peer.until(m.Reply).error:
                return True
    return False
