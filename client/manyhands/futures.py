"""Futures of remote tasks: true `concurrent.futures.Future` objects, made and resolved in bulk.

A plain `Future` makes a lock and a condition when it is born, although most are only asked for their
result once it is there. `RemoteFuture` makes them when somebody first waits, and is resolved
without them otherwise. Everything in the standard library that works with futures reaches for
`_condition` before anything else, so it meets a complete `Future`.

The value is unpickled by whoever asks first, in his own thread: a large or odd result holds up
neither the I/O thread nor other futures, and an import that unpickling triggers cannot deadlock with
the thread that waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from manyhands.open_job import OpenJob
from manyhands_shared import failure, plain, serial, untrusted
from manyhands_shared.errors import ResultError, ResultWithheld
from manyhands_shared.serial import Payload
from manyhands_shared.status import Status

if TYPE_CHECKING:
    from manyhands.loop import SessionLoop
    from manyhands_shared.messages import Function

# Held while a condition is made and while futures without one are resolved, so that whoever comes
# second sees what the first one did.
_birth = threading.Lock()
_BATCH = 256
_LOADING: Any = object()


class _Lazy:
    """An attribute of `Future` that comes into being, with its fellows, when first touched."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, future: RemoteFuture, owner: type) -> Any:
        with _birth:
            if not future._complete:
                future._waiters = []
                future._done_callbacks = []
                future._condition = threading.Condition()
                future._complete = True
        return future.__dict__[self._name]


class RemoteFuture(Future[Any]):
    """The future of one task, as `Executor.submit` returns it.

    Differs from what a process pool returns in one point: `cancel` also stops a task that runs, and
    `running()` is never true, for the client is not told when a task starts.
    """

    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _condition: Any = _Lazy("_condition")
    _waiters: Any = _Lazy("_waiters")
    _done_callbacks: Any = _Lazy("_done_callbacks")
    _complete = False  # whether the three above are there
    # What came back, until somebody asks for it.
    _body: Payload | None = None
    _status = int(Status.OK)

    def __init__(self, sink: FutureSink | None) -> None:
        self._sink = sink  # and not super().__init__(), which makes what is made lazily here

    @classmethod
    def failed(cls, error: BaseException) -> RemoteFuture:
        """The future of a task that could not even be sent."""
        future = cls(None)
        future._fail(error)
        return future

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "finished" if self.done() else "pending"
        return f"<{type(self).__name__} at {id(self):#x} state={state}>"

    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        return self._state in _ENDED

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state == CANCELLED_AND_NOTIFIED

    def cancel(self) -> bool:
        """Cancel the task, whether it waits or runs; false if it has ended already."""
        if not self.done():
            self._settle(Status.CANCELLED, b"")
            if self.cancelled() and self._sink is not None:
                self._sink.cancel(self)
        return self.cancelled()

    def result(self, timeout: float | None = None) -> Any:
        """The task's result, or its exception with the remote traceback as cause.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
            CancelledError: it was cancelled.
            TaskError: it was lost, it crashed, or its result could not travel or be loaded.
        """
        if self._state is not FINISHED:
            self._await(timeout)
        if self._body is not None:
            self._load()
        if self._exception is None:
            return self._result
        try:
            raise self._exception
        finally:
            self = None  # type: ignore[assignment]  # noqa: PLW0642 - else the traceback holds us

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's exception, `None` if it has a result. Raises as `result` does."""
        if self._state is not FINISHED:
            self._await(timeout)
        if self._body is not None:
            self._load()
        return self._exception

    def _await(self, timeout: float | None) -> None:
        if self._sink is not None:
            self._sink.stay_awake(self, timeout)
            if self._state is FINISHED:
                return
        with self._condition:
            if self._state not in _ENDED:
                if self._sink is not None:
                    self._sink.check_may_wait()
                self._condition.wait(timeout)
            if self._state not in _ENDED:
                raise TimeoutError
        if self.cancelled():
            raise CancelledError

    def _load(self) -> None:
        """Unpickle what came back; exactly one thread does, and the others wait for it."""
        with _birth:
            body, self._body = self._body, _LOADING
        if body is _LOADING:
            with self._condition:
                self._condition.wait_for(lambda: self._body is None)
            return
        if body is not None:
            self._result, self._exception = load(
                self._status, body, safe=self._sink is not None and self._sink.safe
            )
        self._body = None
        if self._complete:
            with self._condition:
                self._condition.notify_all()

    def _settle(self, status: int, body: Payload) -> None:
        """End it, unless it has ended; tell whoever waits."""
        with self._condition:
            if self._state in _ENDED:
                return
            if status == Status.CANCELLED:
                self._state = CANCELLED_AND_NOTIFIED
            else:
                self._status, self._body = status, body
                self._state = FINISHED
            for waiter in self._waiters:
                if status == Status.CANCELLED:
                    waiter.add_cancelled(self)
                elif status == Status.OK:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]

    def _fail(self, error: BaseException) -> None:
        """End it with an exception of our own, unless it has ended."""
        with suppress(InvalidStateError):
            self.set_exception(error)


_ENDED = (FINISHED, CANCELLED_AND_NOTIFIED)


def load(
    status: int, body: Payload, *, safe: bool = False, trusted: bool = True
) -> tuple[Any, BaseException | None]:
    """What a task came to: its result and no exception, or the reverse.

    Args:
        status: how the task ended.
        body: what came of it.
        safe: results are msgpack, and no pickle is loaded.
        trusted: pickles may run code. Else values of built-in types are loaded, and no others.
    """
    if status != Status.OK:
        return None, failure.to_exception(status, body, pickled=trusted and not safe)
    loads = plain.loads if safe else serial.loads if trusted else untrusted.loads
    try:
        return loads(body), None
    except untrusted.UntrustedValue as named:
        return None, ResultWithheld(
            f"not loaded: the result holds {named}, and loading that runs code of the job's owner here"
        )
    except Exception as error:  # noqa: BLE001 - loading runs the user's code; only this task fails
        problem = ResultError(
            f"the task succeeded, but its result does not load here: "
            f"{type(error).__name__}: {error}; is the same code installed on both sides?"
        )
        problem.__cause__ = error
        return None, problem


def resolve(futures: Sequence[RemoteFuture], statuses: bytes, bodies: list[Payload]) -> None:
    """End many futures; those that nobody has touched yet in a few instructions each."""
    others = []
    for start in range(0, len(futures), _BATCH):
        batch = slice(start, start + _BATCH)
        failed = any(statuses[batch])
        with _birth:
            for position, future in enumerate(futures[batch], start):
                if failed or future._complete:
                    others.append(position)
                else:
                    future._body = bodies[position]
                    future._state = FINISHED
    for position in others:
        futures[position]._settle(statuses[position], bodies[position])


class FutureSink:
    """Resolves the futures of one job."""

    def __init__(self, loop: SessionLoop, function: Function, options: dict[str, Any]) -> None:
        self._loop = loop
        self._futures: dict[int, RemoteFuture] = {}
        self._doomed: list[RemoteFuture] = []
        self.job = OpenJob(function, options, self)
        #: Whether results are msgpack, and no pickle is to be loaded.
        self.safe = bool(options.get("safe"))
        #: Whether the job was closed, so that the next call opens another.
        self.retired = False

    def cancel(self, future: RemoteFuture) -> None:
        """Tell the broker that nobody wants this task any more."""
        self._doomed.append(future)
        self._loop.cancel(self.job, self._find_doomed)

    def check_may_wait(self) -> None:
        """The thread that brings results cannot wait for one."""
        if self._loop.on_thread():
            raise RuntimeError("a callback cannot wait for another task; wait in another thread")

    def stay_awake(self, future: RemoteFuture, timeout: float | None) -> None:
        """Perhaps wait for a future without going to sleep; it may not have ended then."""
        self._loop.stay_awake(future.done, timeout)

    def accept(self, first: int, entries: Sequence[RemoteFuture], /) -> None:
        """See `Sink`."""
        self._futures.update(zip(range(first, first + len(entries)), entries, strict=True))

    def reject(self, entries: Sequence[RemoteFuture], payloads: Sequence[Payload], /) -> None:
        """See `Sink`. A job may have been closed for want of use just as it was used again."""
        error = self._loop.intake.error
        if error is not None:
            for future in entries:
                future._fail(error)
        elif self.job.cancelled:
            for future in entries:
                future._settle(Status.CANCELLED, b"")
        else:
            heir = FutureSink(self._loop, self.job.function, self.job.options)
            self._loop.open_job(heir.job)
            for future, payload in zip(entries, payloads, strict=True):
                future._sink = heir
                self._loop.intake.put(heir.job, future, payload)
            self._loop.close_job(heir.job)

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        resolve(list(map(self._futures.pop, indices)), statuses, bodies)

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        futures, self._futures = self._futures, {}
        for future in futures.values():
            future._fail(error)

    def _find_doomed(self) -> list[int]:
        doomed, self._doomed = set(self._doomed), []  # whatever was cancelled until now, in one go
        return (
            [index for index, future in self._futures.items() if future in doomed] if doomed else []
        )
