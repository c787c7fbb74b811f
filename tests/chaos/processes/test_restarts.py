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
from harness.processes import eventually

RESTARTS = 50
BOUND = 60.0
#: Calls that may be under way at once.
PENDING = 200


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
        assert future.result() == task
        self.ended += 1

    def has_ended(self, count: int) -> bool:
        """Whether `count` calls have given what they should."""
        return self.ended >= count

    def finish(self) -> None:
        """Submit no more, and wait for everything."""
        self._running = False
        self._thread.join()
        eventually(
            lambda: self.ledger.delivered.keys() >= self.ledger.acknowledged, 60, what="drained"
        )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_kills_under_load_lose_nothing_and_recover_in_time(bench: Bench) -> None:
    durable, attached = (Ledger(bench.folder / name) for name in made(bench, "durable", "attached"))
    broker = bench.broker(journal=str(bench.folder / "journal"))
    for _ in range(2):
        bench.node(broker.address)
    joined(bench.client(broker.address), 2)
    pause = threading.Event()
    recoveries, outages = [], []
    with Customer(broker.address, durable, batch=10, ahead=5) as customer:
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
        eventually(lambda: customer.drained, 60, what="durable jobs drained")
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
    broker = bench.broker(module="chaos.hasty_broker", journal=str(bench.folder / "journal"))
    bench.node(broker.address)
    with Customer(broker.address, ledger, batch=10, ahead=5) as customer:
        for kill in range(1, 6):
            eventually(lambda: len(ledger.acknowledged) > 100 * kill, 120)  # noqa: B023 - at once
            broker.kill()
            broker.start()
            # Five kills are enough to lose every job in flight: then nothing more is submitted.
            if losing(ledger):
                break
        customer.finish()
        with pytest.raises(AssertionError, match="lost"):
            ledger.judge()


def losing(ledger: Ledger) -> bool:
    """Whether tasks that were acknowledged do not come, while nothing is missing to run them."""
    try:
        eventually(lambda: ledger.acknowledged <= ledger.delivered.keys(), 120)
    except AssertionError:
        return True
    return False
