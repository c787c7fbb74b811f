"""What a pool finds of the tasks in its children: once, and in a profile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from harness.pool.pool_rig import PoolRig
from harness.processes import Gate, wait_at
from manyhands_shared.protocol import messages as m
from manyhands_worker.core import events
from manyhands_worker.pool import stack_sampler

_REQUESTS = count(1)


@pytest.fixture(autouse=True)
def long_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task on a busy machine may take its time to answer."""
    monkeypatch.setattr(stack_sampler, "ANSWER_SECONDS", 100.0)


def in_a_loop_of_c() -> None:
    sum(range(10**13))


def in_a_sleep() -> None:
    time.sleep(600)


def in_a_lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def looked(
    rig: PoolRig, job: str = "", indices: tuple[int, ...] = (), seconds: float = 0.0
) -> m.Inspected:
    """Have the pool look, and run the loop until it answers."""
    order = m.Inspect(next(_REQUESTS), job, list(indices), seconds)
    rig.pool.inspect(order, time.monotonic())

    def answer() -> m.Inspected | None:
        found = [one.answer for one in rig.events if isinstance(one, events.Inspected)]
        return next((one for one in found if one.request == order.request), None)

    told: m.Inspected = rig.until(answer, "the pool answers")
    return told


def until_in(rig: PoolRig, name: str, *, at_the_end: bool = False) -> m.Stack:
    """Look until the one running task has come as far as the function `name`.

    `at_the_end`: and has called nothing from there. What traces a test does so at the beginning.
    """
    found: list[m.Stack] = []

    def there() -> bool:
        found[:] = looked(rig).stacks
        lines = found[0].text.splitlines() if found else []
        return any(line.endswith(f" in {name}") for line in lines[1 : 2 if at_the_end else None])

    rig.until(there, f"a task is in {name}")
    return found[0]


@pytest.mark.parametrize("function", [in_a_loop_of_c, in_a_sleep, in_a_lock])
def test_a_task_is_seen_wherever_it_is(
    rig: Callable[..., PoolRig], function: Callable[[], None]
) -> None:
    pool = rig(2)
    [index] = pool.submit(function)
    pool.started()
    seen = until_in(pool, function.__name__, at_the_end=True)
    assert (seen.job, seen.attempt, seen.index, seen.slot) == ("job", 1, index, 0)
    assert (seen.pid, seen.count) == (pool.pool.pid(0), 1)
    head, frame, *rest = seen.text.splitlines()
    assert head.endswith("(most recent call first):")
    assert frame.startswith(f'  File "{__file__}", line ')
    # What is of manyhands is left out, and the other slot has no task.
    assert rest == []
    # It was no more than seen.
    assert not pool.deaths()


def test_the_thread_that_looks_for_long_tasks_is_none_of_the_tasks(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    many = 10

    def task(path: Path) -> None:
        done.append(None)
        if len(done) % many == many // 2:
            wait_at(path)

    done: list[None] = []
    pool = rig()
    # On a busy machine tasks may look long: then they come one by one, without the thread.
    for number in count():
        gate = Gate(tmp_path / f"gate{number}")
        numbers = pool.submit(task, gate.path, count=many)
        seen = until_in(pool, "wait_at")
        threads = list(Path(f"/proc/{seen.pid}/task").iterdir())
        heads = [line for line in seen.text.splitlines() if "most recent call first" in line]
        assert len(heads) == 1
        gate.open()
        assert pool.outcome(numbers) == [(0, None)] * many
        if len(threads) > 1:
            break


def test_of_two_stacks_of_a_thread_the_last_one_counts() -> None:
    # On a busy machine what an earlier look has asked for comes with the answer to the next one.
    last = "(most recent call first):\n  File"
    before = f'Thread 0x1a {last} "a", line 1 in old\nStack {last} "a", line 2 in older\n'
    now = f'Thread 0x2b {last} "b", line 1 in beside\n\nCurrent thread 0x1a {last} "a", line 3 in new\n'
    assert stack_sampler._threads(before + now) == now


def test_threads_of_a_task_are_seen_too(rig: Callable[..., PoolRig], tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")

    def task(path: Path) -> None:
        def beside() -> None:
            wait_at(path)

        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()

    pool = rig()
    numbers = pool.submit(task, gate.path)
    pool.started()
    seen = until_in(pool, "beside")
    assert " in task\n" in seen.text
    gate.open()
    assert pool.outcome(numbers) == [(0, None)]


def test_only_what_is_meant_is_looked_at(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    [index] = pool.submit(in_a_sleep)
    pool.started()
    until_in(pool, "in_a_sleep")
    assert looked(pool, "job", (index,)).stacks
    assert looked(pool, "job", (index + 1,)).stacks == []
    assert looked(pool, "another").stacks == []
    assert looked(pool, "another", seconds=0.05).stacks == []


def test_a_process_that_does_not_answer_is_named(
    rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")

    def deaf(path: Path) -> str:
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
        (path.parent / "deaf").touch()
        return wait_at(path)

    monkeypatch.setattr(stack_sampler, "ANSWER_SECONDS", 0.1)
    pool = rig()
    numbers = pool.submit(deaf, gate.path)
    pool.until((tmp_path / "deaf").exists)
    [seen] = looked(pool).stacks
    assert "does not answer" in seen.text
    gate.open()
    assert pool.outcome(numbers) == [(0, "through")]


def test_threads_that_hear_no_signals_hold_up_no_answer(
    rig: Callable[..., PoolRig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")

    def task(path: Path) -> str:
        def helper() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
            (path.parent / "deaf").touch()
            wait_at(path)

        threading.Thread(target=helper).start()
        return wait_at(path)

    # The answer must not be what has come when the time is over.
    monkeypatch.setattr(stack_sampler, "ANSWER_SECONDS", 1e6)
    pool = rig()
    numbers = pool.submit(task, gate.path)
    pool.until((tmp_path / "deaf").exists)
    seen = until_in(pool, "wait_at")
    assert " in helper\n" in seen.text
    gate.open()
    assert pool.outcome(numbers) == [(0, "through")]


def test_very_many_threads_end_neither_the_child_nor_the_node(
    rig: Callable[..., PoolRig], tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")

    def crowd(path: Path) -> int:
        def deep(left: int) -> None:
            if left:
                deep(left - 1)
            else:
                wait_at(path)

        threads = [threading.Thread(target=deep, args=(80,)) for _ in range(60)]
        for one in threads:
            one.start()
        (path.parent / "crowd").touch()
        for one in threads:
            one.join()
        return len(threads)

    pool = rig()
    numbers = pool.submit(crowd, gate.path)
    pool.until((tmp_path / "crowd").exists)
    seen = until_in(pool, "deep")
    assert len(seen.text) <= 65_536
    assert "more is left out" in seen.text
    gate.open()
    assert pool.outcome(numbers) == [(0, 60)]


def test_a_profile_names_the_function_that_is_hot(rig: Callable[..., PoolRig]) -> None:
    def hot() -> int:
        return sum(number * number for number in range(300))

    def busy() -> None:
        while True:
            hot()

    pool = rig()
    pool.submit(busy)
    pool.started()
    found: list[m.Stack] = []

    def enough() -> bool:
        found.extend(looked(pool, "job", seconds=0.2).stacks)
        return sum(one.count for one in found if " in hot\n" in one.text) >= 5

    pool.until(enough, "the profile has found the function")
    assert all(one.text.endswith(" in busy\n") for one in found if " in hot\n" in one.text)
    assert {(one.job, one.slot, one.pid) for one in found} == {("job", 0, 0)}


def test_two_that_ask_at_once_have_the_same_answer(rig: Callable[..., PoolRig]) -> None:
    pool = rig()
    pool.submit(in_a_sleep)
    pool.started()
    seen = until_in(pool, "in_a_sleep")
    orders = [m.Inspect(next(_REQUESTS), "", [], 0.0) for _ in range(20)]
    for order in orders:
        pool.pool.inspect(order, time.monotonic())
    numbers = {order.request for order in orders}

    def answers() -> list[m.Inspected]:
        found = [one.answer for one in pool.events if isinstance(one, events.Inspected)]
        mine = [one for one in found if one.request in numbers]
        return mine if len(mine) == len(orders) else []

    told = pool.until(answers, "all are answered")
    refused = [one for one in told if one.error]
    assert len(refused) == len(orders) - stack_sampler.MOST_ORDERS
    assert all([stack.text for stack in one.stacks] == [seen.text] for one in told if not one.error)
