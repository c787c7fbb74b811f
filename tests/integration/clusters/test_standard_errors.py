"""What tasks raise is what programs for the standard library's pools catch, on a real cluster."""

from __future__ import annotations

import concurrent.futures.process
import multiprocessing.pool
import operator
import os
import pickle
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from manyhands import (
    Executor,
    InitializerFailed,
    LocalCluster,
    Pool,
    RemoteError,
    ResultError,
    ResultNotLoaded,
    TaskCrashed,
    TaskTimeout,
)

BrokenProcessPool = concurrent.futures.process.BrokenProcessPool
SECONDS = 60


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(nodes=1, slots=2) as cluster:
        yield cluster.address


class UnpicklableThere:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("not this one")


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        sys.exit(4)


class LoadsNowhere:
    def __reduce__(self) -> Any:
        return operator.truediv, (1, 0)


def broken() -> None:
    raise KeyError("the table is away")


def test_a_failing_initializer_breaks_the_executor(address: str) -> None:
    with Executor(address=address, initializer=broken) as executor:
        renamed = executor.with_options(name="other")
        futures = [one.submit(abs, -1) for one in (executor, executor, renamed)]
        for future in futures:
            with pytest.raises(BrokenProcessPool, match="KeyError: 'the table is away'") as caught:
                future.result(SECONDS)
            assert isinstance(caught.value, InitializerFailed)
        for one in (executor, renamed):
            with pytest.raises(InitializerFailed, match="make another executor"):
                one.submit(abs, 1)
            with pytest.raises(InitializerFailed):
                one.map(abs, [1])
        assert "the table is away" in str(executor._broken)


def test_in_a_pool_a_failing_initializer_fails_its_task(address: str) -> None:
    with Pool(address=address, initializer=broken) as pool:
        for _ in range(2):
            with pytest.raises(KeyError, match="the initializer failed"):
                pool.apply(abs, (-1,))


def test_a_crash_is_a_broken_process_pool_for_its_future_alone(address: str) -> None:
    with Executor(address=address, crash_limit=1) as executor:
        with pytest.raises(BrokenProcessPool) as caught:
            executor.submit(os.abort).result(SECONDS)
        assert isinstance(caught.value, TaskCrashed)
        assert executor.submit(abs, -1).result(SECONDS) == 1


def test_a_timeout_is_that_of_both_modules(address: str) -> None:
    with Executor(address=address, timeout=0.2) as executor:
        future = executor.submit(_wait)
        with pytest.raises(TaskTimeout) as caught:
            future.result(SECONDS)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, multiprocessing.TimeoutError)


def _wait() -> None:
    threading.Event().wait()


def test_sys_exit_is_for_the_future_of_its_task(address: str) -> None:
    with Executor(address=address) as executor:
        for function, code in ((lambda: sys.exit(3), 3), (ExitsWhenPickled, 4)):
            with pytest.raises(SystemExit) as caught:
                executor.submit(function).result(SECONDS)
            assert caught.value.code == code
        assert executor.submit(abs, -1).result(SECONDS) == 1
    with Pool(address=address) as pool:
        for call in (pool.apply, lambda function: next(pool.imap(_call, [function]))):
            with pytest.raises(RemoteError, match=r"SystemExit: the task called sys.exit\(3\)"):
                call(lambda: sys.exit(3))


class Stopped(BaseException):
    pass


def _stop(kind: type[BaseException]) -> None:
    raise kind("by the task")


def test_what_is_no_exception_comes_as_it_is_where_the_standard_library_lets_it(
    address: str,
) -> None:
    with Executor(address=address) as executor, Pool(address=address) as pool:
        for kind in (KeyboardInterrupt, GeneratorExit, Stopped):
            ours, theirs = executor.submit(_stop, kind).exception(SECONDS), concurrent_error(kind)
            assert type(ours) is type(theirs) is kind
            assert str(ours) == str(theirs) == "by the task"
            with pytest.raises(RemoteError, match=kind.__name__):
                pool.apply(_stop, (kind,))


def concurrent_error(kind: type[BaseException]) -> BaseException | None:
    """What the standard library's executor gives for the same."""
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        return executor.submit(_stop, kind).exception(SECONDS)


def _call(function: Any) -> Any:
    return function()


def test_a_result_that_cannot_be_pickled(address: str) -> None:
    with Executor(address=address) as executor:
        with pytest.raises(pickle.PicklingError, match="not this one") as caught:
            executor.submit(UnpicklableThere).result(SECONDS)
        assert isinstance(caught.value, ResultError)
    with Pool(address=address) as pool:
        theirs: Any = multiprocessing.pool
        with pytest.raises(theirs.MaybeEncodingError) as told:
            pool.apply(UnpicklableThere)
        assert isinstance(told.value, ResultError)
        error: Any = told.value
        assert error.exc == "PicklingError('not this one')"
        assert "UnpicklableThere object" in error.value


def test_a_result_that_does_not_load(address: str) -> None:
    with Executor(address=address) as executor:
        with pytest.raises(BrokenProcessPool, match="ZeroDivisionError") as caught:
            executor.submit(LoadsNowhere).result(SECONDS)
        assert isinstance(caught.value, ResultNotLoaded)


def test_the_traceback_there_is_of_the_class_of_each_module(address: str) -> None:
    theirs: Any = multiprocessing.pool
    with Executor(address=address) as executor:
        error = executor.submit(operator.truediv, 1, 0).exception(SECONDS)
        assert error is not None
        assert type(error.__cause__) is concurrent.futures.process._RemoteTraceback
        assert "ZeroDivisionError" in str(error.__cause__)
    with Pool(address=address) as pool:
        for call in (
            lambda: pool.apply(operator.truediv, (1, 0)),
            lambda: pool.starmap(operator.truediv, [(1, 0)]),
            lambda: list(pool.imap(_divide, [0])),
        ):
            with pytest.raises(ZeroDivisionError) as caught:
                call()
            assert type(caught.value.__cause__) is theirs.RemoteTraceback
            assert "ZeroDivisionError" in str(caught.value.__cause__)


def _divide(number: int) -> float:
    return 1 / number
