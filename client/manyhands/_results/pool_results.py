"""What `Pool.apply_async` and `Pool.map_async` return."""

from __future__ import annotations

import logging
import multiprocessing
import threading
import types
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from itertools import chain
from typing import Any

from manyhands._bar import bar
from manyhands._results.futures import RemoteFuture
from manyhands._results.outcome import load, outcome
from manyhands._results.pool_errors import as_pool_raises
from manyhands_shared.errors import ClusterClosed
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.status import Status

log = logging.getLogger("manyhands.client")

Callback = Callable[[Any], Any] | None

#: Between two looks at how far a map is.
_POLL_SECONDS = 0.1


class ApplyResult:
    """Stand for the result of one call, as in `multiprocessing.pool`.

    Callbacks run on the client's I/O thread, before the result counts as ready. They must be quick and
    cannot wait for other results. The client logs one that raises.
    """

    __class_getitem__: Any = classmethod(types.GenericAlias)
    #: Called before `get` returns what has come.
    before_get: Callable[[], None] | None = None

    def __init__(
        self,
        future: RemoteFuture,
        callback: Callback = None,
        error_callback: Callback = None,
        pool: object = None,
    ) -> None:
        self._future = future
        self._pool = pool  # lives until this has ended, wherever else it is dropped
        self._called: threading.Event | None = None
        self._raised: BaseException | None = None
        if callback is not None or error_callback is not None:
            self._called = threading.Event()
            self._callbacks = (callback, error_callback)
            future.add_done_callback(self._call_back)

    def ready(self) -> bool:
        """Return whether the call has ended."""
        if self._called is None or self._future.is_orphan:
            return self._future.done()
        return self._called.is_set()

    def successful(self) -> bool:
        """Return whether it ended without an exception.

        Raises:
            ValueError: it has not ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error() is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, `timeout` seconds at most."""
        if self._called is not None and not self._future.is_orphan:
            self._called.wait(timeout)
            return
        try:
            self._future.exception(timeout)
        except (TimeoutError, CancelledError) as error:
            if is_from_handler(error):
                raise

    def get(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or raise what it raised.

        Raises:
            multiprocessing.TimeoutError: it has not ended within `timeout` seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        self._pool = None
        if self.before_get is not None:
            self.before_get()
        error = self._error()
        if error is not None:
            raise error
        return self._future.result()

    def cancel(self) -> None:
        """Drop the call: no caller wants its result any more."""
        self._future.cancel()

    def _error(self) -> BaseException | None:
        """Return what it has raised; one exception, however often it is asked for."""
        if self._raised is None:
            try:
                error = self._future.exception()
            except CancelledError as cancelled:
                return cancelled
            self._raised = None if error is None else as_pool_raises(error)
        return self._raised

    def _call_back(self, future: Any) -> None:
        assert self._called is not None
        try:
            error = self._error()
            run_callback(self._callbacks[error is not None], error or future.result)
        except BaseException as error:
            # SystemExit in a value that is loaded. `get` raises it where it belongs; here it would end
            # `apply_async` if the result has come before the callback was there.
            if is_from_handler(error):
                raise
            log.exception("the result of a call does not load for its callback")
        finally:
            self._called.set()
            self._pool = None


class MapResult:
    """The results of a map, to come; a sink of its job, whose tasks are chunks of it.

    Ready when every chunk has ended, even if one failed; then the first failure is raised.
    """

    __class_getitem__: Any = classmethod(types.GenericAlias)
    #: See `ApplyResult`.
    before_get: Callable[[], None] | None = None

    def __init__(
        self,
        chunks: int,
        callback: Callback = None,
        error_callback: Callback = None,
        chunksize: int = 1,
        pool: object = None,
    ) -> None:
        self._chunksize = chunksize
        self._pool = pool if chunks else None  # lives until this has ended
        self._ended = threading.Event()
        self._callbacks = (callback, error_callback)
        self._chunks: list[Payload] = [b""] * chunks
        self._left = chunks
        self._failure: tuple[int, Payload] | None = None
        self._loading = threading.Lock()
        self._is_loaded = False
        self._value: list[Any] = []
        self._exception: BaseException | None = None
        if not chunks:
            self._ended.set()

    @property
    def _number_left(self) -> int:
        """Chunks that have not ended, by the name under which programs read it to show progress."""
        return self._left

    def ready(self) -> bool:
        """Return whether every call has ended."""
        return self._ended.is_set()

    def successful(self) -> bool:
        """Return whether no call raised an exception.

        Raises:
            ValueError: not all have ended.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._load()
        return self._exception is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all have ended, `timeout` seconds at most."""
        self._ended.wait(timeout)

    def wait_with_bar(self, items: int) -> None:
        """Wait until all have ended, and show how many of the items have, by their chunks."""
        chunks = len(self._chunks)
        with bar(items) as show:
            while not self._ended.wait(_POLL_SECONDS):
                # The last chunk may be a smaller one.
                show(min((chunks - self._left) * self._chunksize, items))
            show(items)

    def get(self, timeout: float | None = None) -> list[Any]:
        """Return the list of what the calls returned, or raise what the first failed one raised.

        Raises:
            multiprocessing.TimeoutError: not all have ended within `timeout` seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        if self.before_get is not None:
            self.before_get()
        self._load()
        if self._exception is not None:
            raise self._exception
        return self._value

    def accept(self, _first: int, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""

    def reject(self, _entries: Sequence[Any], _payloads: Sequence[Payload], /) -> None:
        """See `Sink`."""
        self.fail(ClusterClosed("the pool was closed"))

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        for index, status, body in zip(indices, statuses, bodies, strict=True):
            if status == Status.OK:
                self._chunks[index] = body
            elif self._failure is None:
                self._failure = (status, body)
        self._left -= len(indices)
        if self._left <= 0:
            self._finish()

    def shorten(self, chunks: int) -> None:
        """Take note that there are no more chunks than this. For the I/O thread, as `deliver` is."""
        self._left -= len(self._chunks) - chunks
        del self._chunks[chunks:]
        if self._left <= 0 and not self._ended.is_set():
            self._finish()

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        if not self._ended.is_set():
            self._is_loaded = True
            self._exception = error
            self._finish()

    @property
    def waits(self) -> bool:
        """See `Sink`."""
        return not self._ended.is_set()

    def orphan(self, error: BaseException, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""
        self._loading, self._ended = threading.Lock(), threading.Event()
        self._is_loaded, self._exception = True, error
        self._ended.set()

    def _finish(self) -> None:
        try:
            if self._callbacks != (None, None):
                self._load()
                failed = self._exception is not None
                run_callback(self._callbacks[failed], self._exception or (lambda: self._value))
        except (
            BaseException
        ):  # SystemExit in a value that is loaded: `get` raises it where it belongs
            log.exception("the results of a map do not load for its callback")
        finally:
            self._ended.set()
            self._pool = None

    def _load(self) -> None:
        with self._loading:
            if self._is_loaded:
                return
            if self._failure is not None:
                _, error = outcome(*self._failure)
                self._exception = None if error is None else as_pool_raises(error)
            else:
                loaded = [load(Status.OK, chunk) for chunk in self._chunks]
                self._exception = next((error for _, error in loaded if error is not None), None)
                if self._exception is None:
                    self._value = list(chain.from_iterable(values for values, _ in loaded))
            self._chunks = []
            self._is_loaded = True


def run_callback(callback: Callback, argument: Any) -> None:
    """Call it with an exception, or with what a function gives for the value; log what it raises."""
    if callback is None:
        return
    try:
        callback(argument if isinstance(argument, BaseException) else argument())
    # SystemExit too: it would end the thread that brings all results.
    except BaseException as error:
        if is_from_handler(error):
            raise
        log.exception("a callback of the pool raised; the result itself is not affected")
