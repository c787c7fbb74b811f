"""Waits without sleep: when they are tried, who receives meanwhile, and what may happen during them."""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import manyhands
from harness.brokers.broker_process import Broker
from harness.interruptions import rest
from harness.processes import Gate, wait_at
from manyhands._io import inline, spin
from manyhands._io.spin import Spinner
from manyhands._io.submit_queue import SubmitQueue
from manyhands._results.futures import RemoteFuture
from manyhands_shared.protocol.messages import ResultGroup, Results

BOUND = 100.0
pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="waiting without sleep takes a second processor",
)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that ended a future they were waiting for."""
    threads: list[threading.Thread] = []
    settle = RemoteFuture.settle_quietly

    def noted(*arguments: Any) -> bool:
        threads.append(threading.current_thread())
        return settle(*arguments)

    monkeypatch.setattr(RemoteFuture, "settle_quietly", noted)
    return threads


class Spins:
    """What threads do that wait for a result: each spins for it, or goes to sleep at once."""

    def __init__(self) -> None:
        #: Those that have begun to spin.
        self.threads: list[threading.Thread] = []
        #: True: a thread begins to spin; false: one goes to sleep.
        self.told: queue.SimpleQueue[bool] = queue.SimpleQueue()
        #: Called behind each word that is told.
        self.then: Callable[[], None] = lambda: None

    def tell(self, *, spins: bool) -> None:
        if spins:
            self.threads.append(threading.current_thread())
        self.told.put(spins)
        self.then()


@pytest.fixture
def spins(monkeypatch: pytest.MonkeyPatch) -> Spins:
    """A thread that spins goes on with that for as long as its task runs."""
    noted = Spins()
    keep, wait_first = Spinner.spin_for, inline.InlineCalls.spin

    def begin(self: Spinner, *arguments: Any) -> None:
        noted.tell(spins=True)
        keep(self, *arguments)

    def wait(self: inline.InlineCalls, *arguments: Any) -> None:
        wait_first(self, *arguments)
        if threading.current_thread() not in noted.threads:
            noted.tell(spins=False)

    monkeypatch.setattr(spin, "SPIN_SECONDS", BOUND)
    monkeypatch.setattr(Spinner, "spin_for", begin)
    monkeypatch.setattr(inline.InlineCalls, "spin", wait)
    return noted


def attempts() -> Iterator[int]:
    """Count. A thread does not spin if the I/O thread is at work in that moment: then try again."""
    until = time.monotonic() + BOUND
    for number in itertools.count():
        assert time.monotonic() < until, "no thread spins"
        yield number


def spin_in_thread(
    executor: manyhands.Executor, threads: ThreadPoolExecutor, spins: Spins, place: Path
) -> tuple[Gate, Future[str]]:
    """Have a thread wait without sleep; returns what ends that, and what it comes to."""
    for attempt in attempts():
        rest(executor)
        gate = Gate(place / f"gate-{attempt}")
        task = executor.submit(wait_at, gate.path)
        waiting = threads.submit(task.result, BOUND)
        if spins.told.get(timeout=BOUND):
            return gate, waiting
        gate.open()
        waiting.result(BOUND)
    raise AssertionError


def spin_oneself(
    executor: manyhands.Executor, spins: Spins, settled: list[threading.Thread], place: Path
) -> None:
    """Wait without sleep for a task that ends only then, so that its result comes to this thread."""
    for attempt in attempts():
        rest(executor)
        spins.threads.clear()
        settled.clear()
        gate = Gate(place / f"own-gate-{attempt}")
        spins.then = gate.open
        assert executor.submit(wait_at, gate.path).result(BOUND) == "through"
        if settled == spins.threads == [threading.current_thread()]:
            spins.then = lambda: None
            return


def test_who_waits_for_the_only_task_receives_its_result(
    spins: Spins, settled: list[threading.Thread], tmp_path: Path
) -> None:
    with manyhands.Executor(1) as executor:
        executor.submit(abs, -1).result(BOUND)
        spin_oneself(executor, spins, settled, tmp_path)
        futures = [executor.submit(abs, -n) for n in range(100)]
        assert [future.result(BOUND) for future in futures] == list(range(100))


def test_results_that_no_thread_spins_for_come_after_one_has_spun(
    spins: Spins, settled: list[threading.Thread], tmp_path: Path
) -> None:
    with manyhands.Executor(1) as executor:
        executor.submit(abs, -1).result(BOUND)
        spin_oneself(executor, spins, settled, tmp_path)
        for _ in range(5):
            receivers: queue.SimpleQueue[str] = queue.SimpleQueue()
            executor.submit(abs, -3).add_done_callback(
                lambda _: receivers.put(threading.current_thread().name)  # noqa: B023 - waited for below
            )
            assert receivers.get(timeout=100) == "manyhands-client"


def test_results_of_others_come_while_a_thread_spins(spins: Spins, tmp_path: Path) -> None:
    with (
        manyhands.Executor(2) as executor,
        ThreadPoolExecutor(1) as threads,
        contextlib.ExitStack() as stack,
    ):
        executor.submit(abs, -1).result(BOUND)
        gate, waiting = spin_in_thread(executor, threads, spins, tmp_path)
        stack.callback(gate.open)
        assert [executor.submit(abs, -n).result(BOUND) for n in range(20)] == list(range(20))
        assert not waiting.done()
        gate.open()
        assert waiting.result(BOUND) == "through"


def test_a_broker_may_come_back_while_a_thread_spins(spins: Spins, tmp_path: Path) -> None:
    address = f"unix://{tmp_path / 'socket'}"
    options: dict[str, Any] = {"session_grace": 30.0}
    broker = Broker(bind=address, **options)
    with manyhands.LocalCluster(0) as nodes:
        nodes.address, own = address, nodes.address
        nodes.add_node()
        nodes.address = own
        try:
            with (
                manyhands.Executor(address=address) as executor,
                ThreadPoolExecutor(1) as threads,
                contextlib.ExitStack() as stack,
            ):
                executor.submit(abs, -1).result(BOUND)
                gate, waiting = spin_in_thread(executor, threads, spins, tmp_path)
                stack.callback(gate.open)
                broker.process.send_signal(signal.SIGKILL)
                broker.process.communicate(timeout=120)
                broker = Broker(bind=address, **options)
                gate.open()
                assert waiting.result(BOUND) == "through"
        finally:
            nodes.close()
            broker.close()


def test_over_zeromq_the_io_thread_takes_in_a_task_while_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, threading.Thread]] = []
    for owner, name in ((SubmitQueue, "wake"), (inline.InlineCalls, "send")):
        _note_calls(monkeypatch, owner, name, said)
    broker = Broker()
    try:
        with (
            manyhands.LocalCluster(0) as nodes,
            manyhands.Executor(address=broker.address) as executor,
        ):
            nodes.address, own = broker.address, nodes.address
            nodes.add_node()
            nodes.address = own
            gates = [Gate(tmp_path / f"gate-{number}") for number in range(2)]
            gates[0].open()
            assert executor.submit(wait_at, gates[0].path).result(BOUND) == "through"
            rest(executor)
            said.clear()
            task = executor.submit(wait_at, gates[1].path)
            before_its_end = said[:]
            gates[1].open()
            assert task.result(BOUND) == "through"
    finally:
        broker.close()
    me = threading.current_thread()
    assert before_its_end == [("wake", me), ("send", me)]


def _note_calls(
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    said: list[tuple[str, threading.Thread]],
) -> None:
    """Have the calls of a method that do something noted as they end."""
    method = getattr(owner, name)

    def noted(*arguments: Any) -> Any:
        done = method(*arguments)
        if done is not False:
            said.append((name, threading.current_thread()))
        return done

    monkeypatch.setattr(owner, name, noted)


class AsleepError(Exception):
    """A thread would go to sleep without a spin."""


def test_an_interrupt_comes_after_the_spin_and_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keep, wait_first = Spinner.spin_for, inline.InlineCalls.spin

    def interrupted(self: Spinner, *arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        keep(self, *arguments)

    def must_spin(self: inline.InlineCalls, *arguments: Any) -> None:
        wait_first(self, *arguments)
        raise AsleepError

    with manyhands.Executor(1) as executor, contextlib.ExitStack() as stack:
        executor.submit(abs, -1).result(BOUND)
        monkeypatch.setattr(Spinner, "worth_it", lambda _: True)
        gate = Gate(tmp_path / "gate")
        stack.callback(gate.open)
        future = executor.submit(wait_at, gate.path)
        with monkeypatch.context() as patch:
            patch.setattr(Spinner, "spin_for", interrupted)
            patch.setattr(inline.InlineCalls, "spin", must_spin)
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - more than one attempt
                for _ in attempts():
                    with contextlib.suppress(AsleepError):
                        future.result(BOUND)
        gate.open()
        assert future.result(BOUND) == "through"
        assert [executor.submit(abs, -n).result(BOUND) for n in range(5)] == list(range(5))


def test_spins_that_miss_become_rare_and_one_that_pays_off_brings_them_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spin, "SPIN_SECONDS", 0.0)
    near, far = socket.socketpair()
    with near, far:
        watch = Spinner(can=True)

        def sleeps() -> int:
            """How many waits are left to sleep before the next spin, which misses."""
            count = 0
            while not watch.worth_it():
                count += 1
            watch.spin_for(near.fileno(), lambda: False, None, lambda: True)
            return count

        assert [sleeps() for _ in range(9)] == [0, 1, 3, 7, 15, 31, 63, 100, 100]
        watch.spin_for(near.fileno(), lambda: True, None, lambda: True)
        assert not Spinner(can=False).worth_it()
        assert [sleeps() for _ in range(2)] == [100, 1]


@pytest.mark.parametrize("body", [b"", b"value", (b"head", b"buffer")])
def test_the_brokers_word_on_a_held_result_is_no_result(body: Any) -> None:
    """It says OK with an empty body; the session has fetched what belongs there."""
    future: Any = object()
    sink: Any = SimpleNamespace(job=SimpleNamespace(id="job"), future=lambda _index: future)
    said = Results(1, [ResultGroup("job", 1, [0], bytes(1), [body], 0.0)])
    assert inline._result_of(said, None, sink, future) == (body or None)


def test_lone_large_results_come_whole_whoever_waits_for_them() -> None:
    with manyhands.Executor(1) as executor:
        for number in range(100):
            value = executor.submit(_squares, 60_000 + number).result(BOUND)
            assert value[-1] == (60_000 + number - 1) ** 2


def _squares(count: int) -> list[int]:
    return [number * number for number in range(count)]
