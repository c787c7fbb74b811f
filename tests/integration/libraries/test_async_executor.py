"""`AsyncExecutor`, on a real cluster."""

from __future__ import annotations

import asyncio
import operator
import os
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from manyhands import AsyncExecutor, LocalCluster

if TYPE_CHECKING:
    from manyhands._results.awaitable import Awaitable

#: A cancelled task frees its slot within this.
SECONDS = 110
#: Large enough to be held by its node.
LARGE = 2_000_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(nodes=1, slots=2) as cluster:
        yield cluster.address


def for_ever() -> None:
    threading.Event().wait()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await main

    asyncio.run(bounded())


def stop() -> None:
    raise StopIteration(3)


def test_a_task_that_raises_stop_iteration_ends_its_future(address: str) -> None:
    async def main() -> None:
        async with AsyncExecutor(2, address=address) as executor:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await executor.submit(stop)

    run(main())


def test_calls_maps_and_what_comes_first(address: str) -> None:
    async def main() -> None:
        async with AsyncExecutor(2, address=address) as executor:
            assert await executor.submit(pow, 2, 10) == 1024
            for ahead in (None, 1, 3):
                results = executor.map(pow, range(10), [2] * 10, buffersize=ahead)
                assert [result async for result in results] == [n * n for n in range(10)]
            futures = [executor.submit(abs, -n) for n in range(5)]
            ended = [future.result() async for future in executor.as_completed(futures)]
            assert sorted(ended) == list(range(5))
            with pytest.raises(ValueError, match="buffersize"):
                await anext(executor.map(abs, [1], buffersize=0))

    run(main())


def test_cancelling_stops_the_tasks(address: str) -> None:
    async def main() -> None:
        async with AsyncExecutor(address=address) as executor:
            # Both slots are taken each time, so the call behind shows that they are free again.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await asyncio.gather(executor.submit(for_ever), executor.submit(for_ever))
            assert await executor.submit(abs, -1) == 1
            with pytest.raises(ExceptionGroup):
                await _group(executor)
            results = executor.map(_maybe_for_ever, [0, 1, 1, 1])
            assert await anext(results) == 0
            await results.aclose()
            assert await asyncio.gather(*(executor.run(abs, -n) for n in range(3))) == [0, 1, 2]

    run(main())


def _maybe_for_ever(number: int) -> int:
    if number:
        for_ever()
    return number


def test_leaving_by_an_exception_stops_what_runs(address: str) -> None:
    async def main() -> None:
        executor = AsyncExecutor(address=address)
        with pytest.raises(KeyError):
            await _leave(executor)
        with pytest.raises(RuntimeError, match="cannot schedule new futures"):
            executor.submit(abs, 1)

    run(main())


def _total(numbers: list[Any]) -> int:
    return sum(numbers)


def _power(base: Any, exponent: Any) -> Any:
    return base**exponent


def _zeros(count: int) -> bytes:
    return bytes(count)


def _length(data: bytes) -> int:
    return len(data)


def _when_open(fifo: str, value: int) -> int:
    with open(fifo):  # noqa: PTH123 - waits until the test opens it, too
        return value


def test_futures_and_tasks_of_asyncio_as_arguments(address: str, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def main() -> None:
        async with AsyncExecutor(address=address) as executor:
            chain = executor.submit(abs, -1)
            for _ in range(20):
                chain = executor.submit(operator.add, chain, 1)
            both = executor.submit(_total, [chain, chain])
            # Nothing asks for it before it has ended, so a large one stays where it was made.
            large = executor.submit(_zeros, executor.submit(_when_open, str(fifo), LARGE))
            length = executor.submit(_length, large)
            (await asyncio.to_thread(fifo.open, "w")).close()
            assert [*await asyncio.gather(both, length, chain)] == [42, LARGE, 21]
            assert "pending" in repr(cast("Awaitable[bytes]", large)._remote)
            assert len(await large) == LARGE
            assert await executor.submit(_length, large) == LARGE
            # A task of asyncio is awaited here: its value goes along.
            task = asyncio.create_task(executor.run(abs, -5))
            assert await executor.submit(_power, task, exponent=task) == 5**5
            failed = executor.submit(divmod, 1, 0)
            with pytest.raises(ZeroDivisionError):
                await executor.submit(_power, failed, 1)
            with pytest.raises(ZeroDivisionError):
                await executor.submit(_power, asyncio.create_task(executor.run(divmod, 1, 0)), 1)

    run(main())


async def _group(executor: AsyncExecutor) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(executor.run(for_ever))
        group.create_task(executor.run(divmod, 1, 0))


async def _leave(executor: AsyncExecutor) -> None:
    async with executor:
        executor.submit(for_ever)
        raise KeyError


def test_it_is_entered_before_it_is_used() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="async with"):
            AsyncExecutor().submit(abs, 1)

    run(main())
