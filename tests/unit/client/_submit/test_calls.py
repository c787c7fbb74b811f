"""Calls that come just as their job is closed: they run as another job's, and end with the rest."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.client_broker import FakeBroker
from harness.processes import eventually
from manyhands import ClusterClosed, Executor
from manyhands._code import surroundings
from manyhands._code.program import ProgramCode
from manyhands._submit import functions
from manyhands_shared.protocol.messages import Submit


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as started:
        yield started


class Late:
    """An executor, and a call of it that comes when its job is closed."""

    def __init__(self, broker: FakeBroker, **options: Any) -> None:
        self.broker = broker
        self.executor = Executor(address=broker.address, **options)
        assert self.executor.submit(len, "a").result(60) == 1
        broker.holding = True
        self._go = threading.Event()
        io = self.executor._connection.io
        io.call(lambda: None if self._go.wait(60) else pytest.fail("not let go on"))
        [sink] = self.executor._calls_by_options._opened._sinks.values.values()
        io.call(io.registry.close, sink.job)
        self.call: Any = self.executor.submit(len, "bc")
        self._job = sink.job.id

    def go_on(self) -> None:
        """Let the I/O thread learn of it all."""
        self._go.set()

    def is_taken(self) -> bool:
        """Whether the broker has the call, as one of another job."""
        groups = [
            group for one in self.broker.received if isinstance(one, Submit) for group in one.groups
        ]
        return any(group.job != self._job and group.bodies for group in groups)


def test_it_runs(broker: FakeBroker) -> None:
    late = Late(broker)
    broker.holding = False
    late.go_on()
    assert late.call.result(60) == 2
    late.executor.shutdown()


def test_it_can_be_cancelled_before_that(broker: FakeBroker) -> None:
    late = Late(broker)
    assert late.call.cancel()
    late.go_on()
    # Without its cancellation this would wait for it.
    late.executor.shutdown()
    assert late.call.cancelled()


def test_a_function_whose_file_is_again_as_it_was_is_pickled_once_more_and_no_oftener(
    broker: FakeBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without what other tests have imported; and nothing of this is left to them.
    code = ProgramCode()
    code._seen.update(sys.modules)
    monkeypatch.setattr(surroundings, "program", code)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "turned_back.py"
    file.write_text("def f(x): return x\n")
    function = importlib.import_module("turned_back").f
    pickled: list[Any] = []
    pack = functions.pack

    def counted(*args: Any, **kwargs: Any) -> Any:
        pickled.append(args)
        return pack(*args, **kwargs)

    monkeypatch.setattr(functions, "pack", counted)
    with Executor(address=broker.address) as executor:
        for text in ("", "changed = True\n", ""):
            file.write_text(f"def f(x): return x\n{text}")
            # The files were looked at a moment ago, and are looked at again in another.
            before = len(pickled)
            while len(pickled) == before:
                executor.submit(function, 1).result(60)
        for _ in range(100):
            executor.submit(function, 1).result(60)
        assert len(pickled) == 3
    del sys.modules["turned_back"]


def before(late: Late, end: Callable[[], None]) -> None:
    end()
    late.go_on()


def after(late: Late, end: Callable[[], None]) -> None:
    late.go_on()
    eventually(late.is_taken, what="the call is taken")
    end()


@pytest.mark.parametrize("when", [before, after])
def test_it_is_cancelled_with_all_others(
    broker: FakeBroker, when: Callable[[Late, Callable[[], None]], None]
) -> None:
    late = Late(broker)
    when(late, lambda: late.executor.shutdown(wait=False, cancel_futures=True))
    with pytest.raises(CancelledError):
        late.call.result(60)
    late.executor.shutdown()


@pytest.mark.parametrize("when", [before, after])
def test_it_fails_with_all_others(
    broker: FakeBroker, when: Callable[[Late, Callable[[], None]], None]
) -> None:
    late = Late(broker)
    when(late, lambda: late.executor._calls_by_options._opened.fail(ValueError("the initializer")))
    call: Future[int] = late.call
    with pytest.raises(ValueError, match="the initializer"):
        call.result(60)
    late.executor.shutdown()
    error = late.executor._connection.io.queue.error
    assert isinstance(error, ClusterClosed), "the session has not failed"
