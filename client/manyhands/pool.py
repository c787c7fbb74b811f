"""`Pool`: `multiprocessing.Pool` over a cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn, Self, Unpack

from manyhands._bar import counted, length
from manyhands._io.connection import MAX_PENDING, Connection
from manyhands._io.io_thread import CONNECT_SECONDS
from manyhands._io.open_job import OpenJob, Sink
from manyhands._results.futures import RemoteFuture
from manyhands._results.imap import IMapIterator, ImapStream, feed
from manyhands._results.lookalikes import PoolSlot, WaitingTasks
from manyhands._results.pool_results import ApplyResult, Callback, MapResult
from manyhands._submit import arguments
from manyhands._submit.calls import Calls
from manyhands._submit.chunks import chunks
from manyhands._values.store import Ref
from manyhands.options import SurroundingsOptions, count, job_options, not_of_a_pool
from manyhands_shared.errors import ClusterClosed, ManyhandsError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.payloads.wrappers import MapChunk, StarmapChunk

AsyncResult = ApplyResult

_RUN, _CLOSE, _TERMINATE = "RUN", "CLOSE", "TERMINATE"


class Pool:
    """Have the methods of `multiprocessing.Pool` and their meaning, over a cluster's slots.

    >>> with Pool() as pool:
    ...     pool.map(abs, range(-3, 0))
    [3, 2, 1]

    The broker is the one at `address`, else at ``$MANYHANDS_BROKER``. Without either, the pool starts a
    cluster on this machine, which ends with the pool. Scripts need no ``if __name__ == "__main__"``:
    nodes never import the script. Functions may be lambdas and closures.

    What differs from `multiprocessing`:

    - A child that dies costs no result: its task runs again, or fails with `TaskCrashed`.
    - `initializer` runs before a child's first task of this pool, not when the pool is made. A task
      whose `initializer` raises fails.
    - After `terminate`, what had not ended raises `ClusterClosed` instead of waiting for ever.
    - `imap` reads its input only a bounded number of items ahead.

    Args:
        processes: how many tasks run at once; `None` is no limit, and all cores for a cluster of
            its own.
        initializer: called in each child before its first task, with `initargs`.
        maxtasksperchild: the node replaces a child after that many tasks.
        address: the broker, as ``tcp://host:port``.
        key_file: your key; else ``$MANYHANDS_KEY_FILE``.
        name: shown in lists of jobs; by default the function's name.
        priority: tasks of higher priority go first on the whole broker (-1000 to 1000).
        max_pending: unfinished tasks in this process before a method that submits waits.
        connect_timeout: seconds to wait for the broker.
        echo: show here what tasks print; `None`: unless ``MANYHANDS_ECHO=0`` is set.
        prefix: begin each of these lines with the names of its node and task.
        surroundings: `files`, `environment` and `working_dir`, as `SurroundingsOptions` says.

    Raises:
        ConfigError: an option that cannot be used.
        BrokerUnreachable: no broker answers.
        NotAuthorised, Refused: the broker does not let this client in.
    """

    _state = "INIT"
    _calls_type = Calls
    #: How its warning calls it.
    _package = "manyhands"
    #: Called before a result is returned.
    _before_get: Callable[[], None] | None = None

    def __init__(  # noqa: PLR0913 - those of multiprocessing.Pool, and ours by name
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        *,
        address: str | None = None,
        key_file: str | os.PathLike[str] | None = None,
        name: str | None = None,
        priority: int = 0,
        max_pending: int = MAX_PENDING,
        connect_timeout: float = CONNECT_SECONDS,
        echo: bool | None = None,
        prefix: bool = False,
        **surroundings: Unpack[SurroundingsOptions],
    ) -> None:
        processes = count("processes", processes)
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if others := surroundings.keys() - SurroundingsOptions.__annotations__.keys():
            raise TypeError(not_of_a_pool(min(others)))
        chosen: dict[str, Any] = {"prefix": prefix, "priority": priority, **surroundings}
        if echo is not None:
            chosen["echo"] = echo
        options = job_options(name, tasks_per_child=maxtasksperchild, **chosen)
        self._limit = processes
        # Libraries read these, and `_processes`, of the standard library's pool.
        self._ctx = multiprocessing.get_context()
        self._initializer, self._initargs = initializer, tuple(initargs)
        self._maxtasksperchild = maxtasksperchild
        self._connection = Connection(
            address,
            key_file,
            slots=processes,
            name=options.name,
            limit=processes or 0,
            max_pending=max_pending,
            connect_timeout=connect_timeout,
        )
        self._io = self._connection.io
        self._calls = self._calls_type(self._io, options, initializer, self._initargs)
        self._lock = threading.Lock()
        #: The streams whose input is still read.
        self._feeding: set[ImapStream] = set()
        self._drop = weakref.finalize(
            self, self._connection.abort, ClusterClosed("the pool is gone"), wait=False
        )
        self._drop.atexit = False  # the connection sees to the interpreter's exit itself
        self._state = _RUN

    @property
    def address(self) -> str:
        """Return the broker's address, for other programs that share this pool's cluster."""
        return self._connection.address

    @property
    def _processes(self) -> int:
        """Slots that this pool's tasks may use, one at least."""
        return self._connection.slots(self._limit)

    @property
    def _pool(self) -> list[PoolSlot]:
        """An entry for each slot; of the standard library's pool it has the children."""
        return [PoolSlot(f"slot {number}") for number in range(self._processes)]

    @property
    def _cache(self) -> dict[int, None]:
        """An entry for each task that has not ended; programs wait until there is none."""
        return dict.fromkeys(range(self._io.unended()))

    @property
    def _taskqueue(self) -> WaitingTasks:
        return WaitingTasks(self._io.unended, lambda: self._processes)

    def __repr__(self) -> str:
        size = self._limit if self._limit is not None else "all"
        return f"<manyhands.Pool state={self._state} pool_size={size}>"

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __del__(self) -> None:
        if self._state == _RUN:
            warnings.warn(
                f"unclosed running {self._package} pool {self!r}", ResourceWarning, 2, source=self
            )

    # One call -----------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call ``func(*args, **kwds)`` on a node, and return its result."""
        result = self.apply_async(func, args, kwds)
        try:
            return result.get()
        except BaseException:
            result.cancel()  # Ctrl-C: the call would only keep a slot
            raise

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> ApplyResult:
        """Call ``func(*args, **kwds)`` on a node, and return at once.

        A call that cannot be sent raises from `get`.
        """
        self._check_running()
        try:
            future = self._calls.submit(func, tuple(args), kwds or {})
        except ManyhandsError as error:
            future = RemoteFuture.failed(error)
        result = ApplyResult(future, callback, error_callback, self)
        result.before_get = self._before_get
        return result

    # Maps ---------------------------------------------------------------------------------------

    def map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: bool = False,
    ) -> list[Any]:
        """Return the list of ``func(item)``; `chunksize` items travel as one task.

        With `progress` it shows a bar meanwhile, on a terminal and in a notebook.
        """
        return self._map(func, iterable, MapChunk, chunksize, progress=progress)

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> MapResult:
        """Do as `map`, and return at once."""
        return self._map_async(func, iterable, MapChunk, chunksize, callback, error_callback)[0]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: bool = False,
    ) -> list[Any]:
        """Return the list of ``func(*item)``; `chunksize` items travel as one task.

        With `progress` it shows a bar meanwhile, on a terminal and in a notebook.
        """
        return self._map(func, iterable, StarmapChunk, chunksize, progress=progress)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> MapResult:
        """Do as `starmap`, and return at once."""
        return self._map_async(func, iterable, StarmapChunk, chunksize, callback, error_callback)[0]

    def imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Yield each ``func(item)`` in order as it comes, and read the input as it goes.

        With `progress` it shows a bar of how many were yielded, on a terminal and in a notebook. The
        iterator then has no method `next`.
        """
        results = self._imap(func, iterable, chunksize, ordered=True)
        return counted(results, length(iterable)) if progress else results

    def imap_unordered(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Yield each ``func(item)`` as soon as it comes, in any order.

        With `progress` it shows a bar of how many were yielded, on a terminal and in a notebook. The
        iterator then has no method `next`.
        """
        results = self._imap(func, iterable, chunksize, ordered=False)
        return counted(results, length(iterable)) if progress else results

    def scatter(self, value: Any) -> Ref:
        """Keep a value here for calls that take it as an argument: see `Executor.scatter`."""
        return self._io.store.scatter(value)

    # The end ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more calls. What there is goes on."""
        with self._lock:
            if self._state == _TERMINATE:
                return
            # What Ctrl-C has interrupted here before is done when this is called again.
            self._state = _CLOSE
            self._calls.close()
            for stream in self._feeding:
                stream.hurry()
            if not self._feeding:
                self._finish()

    def terminate(self) -> None:
        """Stop at once. What has not ended raises `ClusterClosed`."""
        self._state = _TERMINATE
        self._drop.detach()
        self._connection.abort(ClusterClosed("the pool was terminated"))

    def join(self) -> None:
        """Wait until everything has ended, after `close` or `terminate`.

        Raises:
            ValueError: neither was called.
        """
        if self._state == _RUN:
            raise ValueError("Pool is still running")
        self._io.join()

    # Inside -------------------------------------------------------------------------------------

    def _check_running(self) -> None:
        if self._state != _RUN:
            raise ValueError("Pool not running")

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        wrapper: type[MapChunk | StarmapChunk],
        chunksize: int | None,
        *,
        progress: bool,
    ) -> list[Any]:
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        result, job = self._map_async(func, items, wrapper, chunksize)
        try:
            if progress:
                result.wait_with_bar(len(items))
            return result.get()
        except BaseException:
            if job is not None and not result.ready():
                # Ctrl-C: its tasks would only keep slots.
                self._io.call(self._io.registry.cancel, job)
            raise

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        wrapper: type[MapChunk | StarmapChunk],
        chunksize: int | None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> tuple[MapResult, OpenJob | None]:
        self._check_running()
        items: Any = iterable if hasattr(iterable, "__len__") else list(iterable)
        count = len(items)
        if chunksize is None:
            chunksize = -(-count // (4 * self._processes)) or 1
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
        result = MapResult(-(-count // chunksize), callback, error_callback, chunksize, pool=self)
        result.before_get = self._before_get
        if not count:
            return result, None
        job: OpenJob | None = None
        try:
            job, pack = self._open_map(func, wrapper, result)
            promised, sent = -(-count // chunksize), 0
            for chunk in islice(chunks(items, chunksize), promised):
                self._io.queue.put(job, None, pack(chunk))
                sent += 1
            if sent < promised:  # what `len` says of an object need not be true
                self._io.call(result.shorten, sent)
            self._io.call(self._io.registry.close, job)
        except ManyhandsError as error:  # as in multiprocessing, `get` is the place to hear of it
            result.fail(error)
            if job is not None:
                self._io.call(self._io.registry.cancel, job)
        except BaseException:
            if job is not None:
                self._io.call(self._io.registry.cancel, job)
            raise
        return result, job

    def _imap(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int, *, ordered: bool
    ) -> Iterator[Any]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize}")
        results = IMapIterator(2 * self._processes, ordered=ordered, pool=self)
        results.before_next = self._before_get
        job, pack = self._open_map(func, MapChunk if chunksize > 1 else None, results.sink)
        put, rows = (
            self._io.queue.put,
            iterable if chunksize == 1 else chunks(iterable, chunksize),
        )

        def submit(row: Any) -> None:
            put(job, None, pack(row))

        def done() -> None:
            if results_sink.abandoned:
                self._io.call(self._io.registry.cancel, job)
            else:
                self._io.call(self._io.registry.close, job)
            with self._lock:
                self._feeding.discard(results_sink)
                if self._state == _CLOSE and not self._feeding:
                    self._finish()

        results_sink = results.sink
        with self._lock:
            self._feeding.add(results_sink)
        feed(results_sink, rows, submit, done)
        if chunksize == 1:
            return results
        return (item for chunk in results for item in chunk)

    def _open_map(
        self, func: Callable[..., Any], wrapper: Any, sink: Sink
    ) -> tuple[OpenJob, Callable[[Any], Payload]]:
        """Open a job of its own for a function, and return what packs the only argument of its tasks."""
        store, spans = self._io.store, self._calls.spans(func)
        if spans is None:
            job = OpenJob(self._calls.pack(func, wrapper), self._calls.job_options(func), sink)
            self._io.call(self._io.registry.open, job)
            return job, lambda row: arguments.pack((row,), {}, store)
        traced = spans.sink(sink)
        packed = self._calls.pack(func, spans.wrapper(wrapper))
        job = OpenJob(packed, self._calls.job_options(func, traced=True), traced)
        self._io.call(self._io.registry.open, job)

        def pack(row: Any) -> Payload:
            context = traced.begin(job.id)
            try:
                return arguments.pack((context, row), {}, store)
            except BaseException as error:
                traced.give_up(error)
                raise

        return job, pack

    def _finish(self) -> None:
        self._drop.detach()
        self._connection.finish(wait=False)
