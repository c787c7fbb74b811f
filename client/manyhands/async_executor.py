"""`AsyncExecutor`: a cluster for programs that use asyncio."""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any, ParamSpec, Self, TypeVar, overload

from manyhands._results.awaitable import Awaitable
from manyhands.executor import Executor

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")


class AsyncExecutor:
    """Run calls on a cluster's nodes, and await them.

    >>> async with AsyncExecutor() as executor:
    ...     await executor.submit(pow, 2, 10)
    1024

    Cancelling what `submit` returns stops the task on its node. So do `asyncio.timeout` and a
    `TaskGroup` that ends early. When the block is left by an exception, all its tasks are stopped.

    Args:
        arguments: positional ones of `Executor`.
        options: those of `Executor` by name.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._make = lambda: Executor(*arguments, **options)
        self._executor: Executor | None = None

    async def __aenter__(self) -> Self:
        # Connecting waits for the broker, or for a cluster of its own to start.
        self._executor = await asyncio.to_thread(self._make)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await self.shutdown(cancel_futures=kind is not None)

    @property
    def executor(self) -> Executor:
        """Return the `Executor` that runs the calls.

        Raises:
            RuntimeError: outside of ``async with``.
        """
        if self._executor is None:
            raise RuntimeError("use it in `async with AsyncExecutor() as executor:`")
        return self._executor

    @overload
    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]: ...

    # As of `Executor.submit`: a parameter specification has no word for "or a future of it".
    @overload
    def submit(self, fn: Callable[[A], T], a: A | asyncio.Future[A], /) -> asyncio.Future[T]: ...

    @overload
    def submit(
        self, fn: Callable[[A, B], T], a: A | asyncio.Future[A], b: B | asyncio.Future[B], /
    ) -> asyncio.Future[T]: ...

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Call ``fn(*args, **kwargs)`` on a node, and return the future to await.

        Arguments may be futures of earlier calls, also within lists, dictionaries and objects. They
        stand for their results. These stay with their nodes until the program awaits them. Other
        futures and tasks of asyncio are awaited here first; they are arguments themselves.

        Raises:
            RuntimeError: the executor was shut down, or no event loop runs.
        """
        loop = asyncio.get_running_loop()
        if any(map(_is_awaited, (*args, *kwargs.values()))):
            return loop.create_task(self._submit_after(fn, args, kwargs))
        return Awaitable(self.executor.submit(fn, *args, **kwargs), loop)

    async def _submit_after(
        self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        """Call with the results of what is awaited here."""
        # Unlike `gather` it leaves them alone when this call is cancelled.
        await asyncio.wait([value for value in (*args, *kwargs.values()) if _is_awaited(value)])
        args = tuple(value.result() if _is_awaited(value) else value for value in args)
        named = {
            name: value.result() if _is_awaited(value) else value for name, value in kwargs.items()
        }
        return await self.submit(fn, *args, **named)

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn(*args, **kwargs)`` on a node; a coroutine, as `TaskGroup.create_task` takes it."""
        return await self.submit(fn, *args, **kwargs)

    async def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], buffersize: int | None = None
    ) -> AsyncGenerator[T, None]:
        """Yield each result of calling `fn` on the nodes, in order. Leaving the loop stops the rest.

        Args:
            fn: the function.
            iterables: its arguments, one iterable for each.
            buffersize: how many calls are ahead of the consumer at most; all with `None`.

        Raises:
            ValueError: a `buffersize` below 1.
        """
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        rows = zip(*iterables, strict=False)
        pending: collections.deque[asyncio.Future[T]] = collections.deque()
        try:
            pending.extend(self.submit(fn, *row) for row in itertools.islice(rows, buffersize))
            while pending:
                value = await pending[0]
                pending.popleft()
                pending.extend(self.submit(fn, *row) for row in itertools.islice(rows, 1))
                yield value
        finally:
            for future in pending:
                future.cancel()

    async def as_completed(
        self, futures: Iterable[asyncio.Future[T]]
    ) -> AsyncGenerator[asyncio.Future[T], None]:
        """Yield each future when it has ended."""
        ended: asyncio.Queue[asyncio.Future[T]] = asyncio.Queue()
        waited = set(futures)
        for future in waited:
            future.add_done_callback(ended.put_nowait)
        try:
            for _ in range(len(waited)):
                yield await ended.get()
        finally:
            for future in waited:
                future.remove_done_callback(ended.put_nowait)

    async def shutdown(self, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and return when all have ended.

        Args:
            cancel_futures: stop what has not ended.
        """
        await asyncio.to_thread(self.executor.shutdown, cancel_futures=cancel_futures)


def _is_awaited(value: object) -> bool:
    """Whether an argument is a future that no other session than asyncio's knows."""
    return asyncio.isfuture(value) and not isinstance(value, Awaitable)
