"""`Executor`: `concurrent.futures` over a cluster."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

from manyhands import _html as html
from manyhands._bar import counted, length
from manyhands._io.connection import MAX_PENDING, Connection, is_exiting
from manyhands._io.io_thread import CONNECT_SECONDS
from manyhands._results.futures import RemoteFuture
from manyhands._results.gather import gather
from manyhands._results.lookalikes import PoolSlot, WaitingTasks
from manyhands._submit.calls import Calls, CallsByOptions
from manyhands._submit.chunks import chunks
from manyhands._values.store import Ref
from manyhands.options import TaskOptions, count, job_options
from manyhands_shared.errors import ClusterClosed, ManyhandsError, SubmitError
from manyhands_shared.payloads.wrappers import MapChunk, StarmapChunk

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
P = ParamSpec("P")


class Executor(concurrent.futures.Executor):
    """Run calls on a cluster's nodes. Futures are `concurrent.futures.Future` objects.

    >>> with Executor() as executor:
    ...     executor.submit(pow, 2, 10).result()
    1024

    The broker is the one at `address`, else at ``$MANYHANDS_BROKER``. Without either, the executor
    starts a cluster on this machine, which ends with the executor.

    `submit` copies a call's arguments; changing them afterwards changes nothing. The thread that asks
    for a result unpickles it. `Future.cancel` stops running tasks too.

    An executor that is dropped without `shutdown`, or open when the interpreter exits, finishes
    what was submitted, as a `ProcessPoolExecutor` does. After a fork, the child's copy raises
    `ClusterClosed`.

    Args:
        max_workers: how many of its tasks run at once; `None` is no limit, and all cores for a
            cluster of its own.
        mp_context: is taken as by a `ProcessPoolExecutor`, and not used: the nodes start the children.
        initializer: called in each pool child before its first task, with `initargs`. If it raises,
            the executor is broken, as a `ProcessPoolExecutor` is: all futures raise
            `InitializerFailed`, and `submit` does.
        address: the broker, as ``tcp://host:port``.
        key_file: your key; else ``$MANYHANDS_KEY_FILE``.
        name: shown in lists of jobs; by default the function's name.
        max_pending: unfinished tasks in this process before `submit` waits.
        block: if false, `submit` raises `SubmitQueueFull` instead of waiting.
        max_tasks_per_child: the node replaces a pool child after that many tasks.
        connect_timeout: seconds to wait for the broker.
        options: of every call: `retries`, `timeout`, `priority` and so on, as `TaskOptions` lists them.
            `with_options` changes them for some calls.

    Raises:
        ConfigError: an option that cannot be used.
        BrokerUnreachable: no broker answers.
        NotAuthorised, Refused: the broker does not let this client in.
    """

    def __init__(  # noqa: PLR0913 - the options of an executor, all but one by name
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        address: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        name: str | None = None,
        max_pending: int = MAX_PENDING,
        block: bool = True,
        max_tasks_per_child: int | None = None,
        connect_timeout: float = CONNECT_SECONDS,
        **options: Unpack[TaskOptions],
    ) -> None:
        max_workers = count("max_workers", max_workers)
        max_tasks_per_child = count("max_tasks_per_child", max_tasks_per_child)
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_pending <= 0:
            raise ValueError("max_pending must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        initargs = tuple(initargs)
        if max_tasks_per_child is not None and max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        defaults = job_options(name, tasks_per_child=max_tasks_per_child, **options)
        self._connection = Connection(
            address,
            key_file,
            slots=max_workers,
            name=defaults.name,
            limit=max_workers or 0,
            max_pending=max_pending,
            connect_timeout=connect_timeout,
            finish_at_exit=True,
        )
        self._options: dict[str, Any] = {
            "name": name,
            "tasks_per_child": max_tasks_per_child,
            **options,
        }
        io = self._connection.io
        self._calls_by_options = CallsByOptions(
            io,
            lambda options, opened: Calls(
                io, options, initializer, initargs, block=block, opened=opened
            ),
        )
        self._admission = _Admission()
        if initializer is not None:
            self._calls_by_options.break_with(self._admission.fail)
        self._calls = self._calls_by_options.of(defaults)
        #: The executor that `with_options` was called on first: the session ends when that is dropped.
        #: None for that one itself: a cycle would leave the session to the garbage collector.
        self._root: Executor | None = None
        # Libraries read these, `_max_workers` and `_shutdown`, of the standard library's executors.
        self._limit = max_workers
        self._initializer, self._initargs = initializer, initargs
        self._max_tasks_per_child = max_tasks_per_child
        if mp_context is None:
            mp_context = multiprocessing.get_context("spawn" if max_tasks_per_child else None)
        self._mp_context = mp_context
        self._shutdown_lock = threading.Lock()
        self._drop = weakref.finalize(self, _drop, self._calls_by_options, self._connection)
        self._drop.atexit = False  # the connection sees to the interpreter's exit itself

    @property
    def address(self) -> str:
        """Return the broker's address, for other programs that share this executor's cluster."""
        return self._connection.address

    def _repr_html_(self) -> str:
        """Show what it works on, in a notebook."""
        rows: list[tuple[str, object]] = [("broker", self.address)]
        if self._shutdown:
            return html.card("manyhands executor", [*rows, ("state", "shut down")])
        rows += [("slots", self._max_workers), ("unfinished", self._connection.io.unended())]
        with contextlib.suppress(ManyhandsError, TimeoutError):
            rows.append(("dashboard", self.dashboard_url))
        return html.card("manyhands executor", rows)

    @property
    def dashboard_url(self) -> str | None:
        """Return where the broker's dashboard is; `None` if it serves none, as with `Executor()`'s own.

        Raises:
            TimeoutError: no answer within half a minute.
        """
        return self._connection.dashboard_url()

    @property
    def _max_workers(self) -> int:
        """Slots that the calls of this executor may use, one at least."""
        return self._connection.slots(self._limit)

    @property
    def _shutdown(self) -> bool:
        """Whether no more calls are taken."""
        return self._admission.is_shut

    @property
    def _broken(self) -> str | bool:
        """Why no more calls are taken, if an initializer has failed."""
        return False if self._admission.error is None else str(self._admission.error)

    @property
    def _processes(self) -> dict[int, PoolSlot]:
        """An entry for each slot; of the standard library's executor it has the children."""
        return {number: PoolSlot(f"slot {number}") for number in range(self._max_workers)}

    @property
    def _shutdown_thread(self) -> bool:
        return self._shutdown

    @property
    def _pending_work_items(self) -> dict[int, None]:
        """An entry for each task that has not ended."""
        return dict.fromkeys(range(self._connection.io.unended()))

    @property
    def _work_queue(self) -> WaitingTasks:
        return WaitingTasks(self._connection.io.unended, lambda: self._max_workers)

    def with_options(self, *, name: str | None = None, **options: Unpack[TaskOptions]) -> Executor:
        """Return this executor with other options for what is submitted through it.

        >>> with Executor() as executor:
        ...     executor.with_options(retries=3, timeout=10.0).submit(pow, 2, 10).result()
        1024

        It is the same session and ends with it: `shutdown` of either shuts both. It is cheap enough to
        call for every task.

        Raises:
            ConfigError: an option that cannot be used.
        """
        changed = {**self._options, **options}
        if name is not None:
            changed["name"] = name
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._root = self._root or self
        other._options = changed
        other._calls = self._calls_by_options.of(job_options(**changed))
        return other

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    # A parameter specification has no word for "or a future of it": these are for type checkers.
    @overload
    def submit(self, fn: Callable[[A], T], a: A | Future[A], /) -> Future[T]: ...

    @overload
    def submit(
        self, fn: Callable[[A, B], T], a: A | Future[A], b: B | Future[B], /
    ) -> Future[T]: ...

    @overload
    def submit(
        self, fn: Callable[[A, B, C], T], a: A | Future[A], b: B | Future[B], c: C | Future[C], /
    ) -> Future[T]: ...

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn(*args, **kwargs)`` on a node, and return its future.

        A future of this executor can be an argument, or be inside one. The call waits at the broker
        until that has ended, and gets its result. It fails or is cancelled if that does. A large result
        stays on its node meanwhile. Type checkers take futures for up to three arguments by position.
        For others, and for futures inside of arguments, the parameter's type has to allow for them.

        The future of a call that cannot be sent raises `SubmitError`: the function or an argument cannot
        be pickled or is too large. It is also of the class of what pickle has raised.

        Raises:
            RuntimeError: the executor was shut down, or is broken (`InitializerFailed`).
            SubmitQueueFull: `max_pending` tasks wait, and the executor was made with `block=False`.
        """
        if self._admission.is_closed:
            raise self._admission.refusal()
        try:
            return self._calls.submit(fn, args, kwargs)
        except SubmitError as error:
            return RemoteFuture.failed(error)
        except ClusterClosed:
            if is_exiting():
                raise RuntimeError(
                    "cannot schedule new futures after interpreter shutdown"
                ) from None
            raise

    def gather(
        self, futures: Any, *, timeout: float | None = None, return_exceptions: bool = False
    ) -> Any:
        """Return the results of futures, in the shape that these are in.

        >>> with Executor() as executor:
        ...     executor.gather({"powers": [executor.submit(pow, 2, n) for n in range(4)]})
        {'powers': [1, 2, 4, 8]}

        Large results that stay on their nodes come at the same time.

        Args:
            futures: a future, or lists, tuples, sets and dicts with futures in them, however deep. All
                else in these is left as it is.
            timeout: seconds for all together.
            return_exceptions: an exception stands in the place of its result, and nothing is raised.

        Raises:
            TimeoutError: not all have ended within `timeout` seconds.
            BaseException: what the first of the futures that failed raises.
        """
        return gather(futures, timeout, return_exceptions=return_exceptions)

    def scatter(self, value: Any) -> Ref:
        """Keep a value here for calls that take it as an argument: each node gets it once.

        >>> with Executor() as executor:
        ...     table = executor.scatter(list(range(1_000_000)))
        ...     executor.submit(len, table).result()
        1000000

        The client keeps it as it is now, as long as the `Ref` or a call with the `Ref` is there. Arrays
        in it are read-only on the nodes. Large arrays that are passed as they are travel once too. But
        then each call looks whether they are still the same.

        Raises:
            SubmitError: the value cannot be pickled, or there is no memory for it.
        """
        return self._connection.io.store.scatter(value)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """Yield each result of calling `fn` on the nodes, in order, as the built-in `map` does.

        Args:
            fn: the function.
            iterables: its arguments, one iterable for each.
            timeout: seconds, from now on, within which a result must be there when asked for.
            chunksize: how many calls travel as one task. They then fail together.
            buffersize: how many tasks are ahead of the consumer at most; `map` then reads the
                iterables as it yields results. With `None` it reads them whole at once.
            progress: show a bar of how many results were yielded, on a terminal and in a notebook.

        Raises:
            ValueError: a `chunksize` or `buffersize` below 1.
            TimeoutError: from the iterator, if a result does not come in time.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if self._admission.is_closed:
            raise self._admission.refusal()
        deadline = None if timeout is None else time.monotonic() + timeout
        wrapper: type[MapChunk | StarmapChunk] | None = None
        rows: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        if chunksize > 1 and len(iterables) == 1:
            wrapper, rows = MapChunk, zip(chunks(iterables[0], chunksize))
        elif chunksize > 1:
            wrapper, rows = StarmapChunk, zip(chunks(rows, chunksize))
        total = length(*iterables) if progress else None
        results = _results(self._calls.submitter(fn, wrapper), rows, deadline, buffersize)
        if chunksize != 1:
            results = itertools.chain.from_iterable(cast("Iterator[list[T]]", results))
        return counted(results, total) if progress else results

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end when all calls have ended.

        Args:
            wait: return only then.
            cancel_futures: cancel what has not ended, running tasks too.
        """
        self._admission.shut()
        if cancel_futures:
            self._calls_by_options.cancel()
        if self._drop.alive:
            self._calls_by_options.close()
            self._connection.finish(wait=False)
            # Last: what Ctrl-C interrupts before is done when this is called again, or at the exit.
            self._drop.detach()
        if wait:
            self._connection.io.join()


class _Admission:
    """Whether an executor takes calls: until it is shut down, or an initializer fails."""

    is_closed = False
    is_shut = False
    #: With which an initializer has failed first.
    error: BaseException | None = None

    def shut(self) -> None:
        """Take no more calls."""
        self.is_closed = self.is_shut = True

    def fail(self, error: BaseException) -> None:
        """Take no more calls, because an initializer has failed."""
        if self.error is None:
            self.error, self.is_closed = error, True

    def refusal(self) -> BaseException:
        """Return why no more calls are taken."""
        if self.error is None or self.is_shut:
            return RuntimeError("cannot schedule new futures after shutdown")
        from manyhands_shared.standard_errors import InitializerFailed  # noqa: PLC0415 - 8 ms

        return InitializerFailed(f"{self.error}; make another executor")


def _drop(calls: CallsByOptions, connection: Connection) -> None:
    calls.close()
    connection.finish(wait=False)


def _results(
    submit: Callable[[tuple[Any, ...]], RemoteFuture],
    rows: Iterator[tuple[Any, ...]],
    deadline: float | None,
    ahead: int | None,
) -> Iterator[Any]:
    """Submit all rows, or `ahead` of them, now; the iterator returned gives results in order."""
    pending: collections.deque[RemoteFuture] = collections.deque()
    try:
        pending.extend(map(submit, itertools.islice(rows, ahead)))
    except BaseException:
        for future in pending:
            future.cancel()
        raise

    def generate() -> Iterator[Any]:
        try:
            while pending:
                future = pending.popleft()
                try:
                    left = None if deadline is None else deadline - time.monotonic()
                    value = [future.result(left)]
                finally:
                    future.cancel()
                    del future
                if ahead is not None:
                    pending.extend(map(submit, itertools.islice(rows, 1)))
                # Not held here while the caller has it, nor after.
                yield value.pop()
        finally:
            for future in pending:
                future.cancel()

    return generate()
