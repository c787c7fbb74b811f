"""Futures of remote tasks: true `concurrent.futures.Future` objects, made and resolved in bulk.

A plain `Future` makes a lock and a condition when it is born, although most are only asked for their
result once it is there. `RemoteFuture` makes them when a thread first waits, and is resolved
without them otherwise. Everything in the standard library that works with futures reaches for
`_condition` before anything else, so it meets a complete `Future`.

The first thread that asks unpickles the value. So a large or odd result holds up neither the I/O thread
nor other futures. An import that unpickling triggers cannot deadlock with the thread that waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from manyhands._io.open_job import before_orphans
from manyhands._results.outcome import load
from manyhands._values.store import packing_now
from manyhands_shared.clock import monotonic
from manyhands_shared.payloads import refs
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.payloads.pickled import STACK_GLOBAL, load_plain
from manyhands_shared.processes import thread_start
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.exceptions import of_exception
from manyhands_shared.protocol.status import Status

if TYPE_CHECKING:
    from manyhands._io.open_job import OpenJob
    from manyhands._values.store import Store

log = logging.getLogger("manyhands.client")

# Held while a condition is made and while futures without one are resolved. So the thread that comes
# second sees what the first one did. A signal handler may come in again.
_birth = threading.RLock()
#: Until when no held lock is waited for.
_held_until = 0.0
_BATCH = 256
_OK = int(Status.OK)
#: The standard library holds a future's lock for some instructions, and a caller not much longer.
_HELD_SECONDS = 1.0
#: Behind one that is held for longer there may be many: for so long none of them is waited for.
_HELD_PAUSE_SECONDS = 10.0
#: Between two looks at whether another thread still unpickles a result.
_POLL_SECONDS = 0.02


class _Lazy:
    """An attribute of `Future` that comes into being, with its fellows, when first touched."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, future: RemoteFuture, owner: type) -> Any:
        made: Any = [], [], threading.Condition()
        with _birth:  # no call in here: a signal handler that waits would keep out the I/O thread
            first = not future._complete
            if first:
                future._waiters, future._done_callbacks, future._condition = made
                future._complete = True
        if first and future._is_input:
            future._ask()
        return future.__dict__[self._name]


class Owner(Protocol):
    """What a future needs of the job that its task belongs to."""

    job: OpenJob
    #: Whether results are msgpack, and no pickle is to be loaded.
    safe: bool

    def cancel(self, future: RemoteFuture) -> None:
        """Tell the broker that the task is not wanted any more."""

    def check_may_wait(self) -> None:
        """Raise RuntimeError on the thread that brings results, which cannot wait for one."""

    def spin(self, future: RemoteFuture, timeout: float | None) -> None:
        """Perhaps wait without going to sleep; it may not have ended then."""

    def keeps_in(self, store: Store) -> bool:
        """Whether it is of the session that keeps its values there."""

    def stay(self, index: int, future: RemoteFuture) -> None:
        """Let a result stay with its node until its future is asked for it. On the I/O thread."""

    def ask(self, future: RemoteFuture) -> None:
        """Have such a result come."""


class RemoteFuture(Future[Any]):
    """The future of one task, as `Executor.submit` returns it.

    Differs from what a process pool returns in one point: `cancel` also stops a task that runs.
    `running()` is never true, for the client is not told when a task starts.
    """

    _state = PENDING
    _result: Any = None
    _exception: BaseException | None = None
    _condition: Any = _Lazy("_condition")
    _waiters: Any = _Lazy("_waiters")
    _done_callbacks: Any = _Lazy("_done_callbacks")
    _complete = False  # whether the three above are there
    # What came back, until a thread asks for it.
    _body: Payload | None = None
    _status = int(Status.OK)
    _loader: int | None = None  # the thread that unpickles it
    # Whether the result is an input of another task. It may stay with its node until a thread touches
    # the condition. And the task's index, and what came back: it may be an input of more tasks.
    _is_input = False
    _index: int | None = None
    _packed: tuple[int, Payload] | None = None
    # Of a task that is traced: ended by the sink, for to ask the future would have its result come.
    _span: Any = None
    #: Whether this process was forked while it was pending: it has ended with an error, quietly.
    is_orphan = False

    def __init__(self, sink: Owner | None) -> None:
        self._sink = sink  # and not super().__init__(), which makes what is made lazily here

    @classmethod
    def failed(cls, error: BaseException) -> RemoteFuture:
        """The future of a task that could not even be sent."""
        future = cls(None)
        future._fail(error)
        return future

    def __repr__(self) -> str:
        is_over = self._state in ENDED
        state = "cancelled" if self.cancelled() else "finished" if is_over else "pending"
        return f"<{type(self).__name__} at {id(self):#x} state={state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Stand for the result, in the arguments of a task.

        Raises:
            TypeError: it is pickled for something else, or is a future of another session.
            FailedInput: it has ended without a result.
        """
        packer = packing_now()
        if packer is None:
            raise TypeError(
                "a future can only be an argument of a task that is neither durable nor safe; "
                "pass its result() instead"
            )
        if self._become_input():
            if self._sink is None or not self._sink.keeps_in(packer.store):
                raise TypeError(
                    "a future of another session cannot be an argument; pass its result()"
                )
            return packer.given(self)
        if self.cancelled() or self.exception() is not None:
            raise FailedInput(self)
        return refs.itself, (self.result(),)

    def _become_input(self) -> bool:
        """Let the result stay with its node until a thread asks; false if the task has ended."""
        with _birth:
            is_pending = self._state is PENDING
            self._is_input = self._is_input or is_pending
        return is_pending

    def as_input(self) -> tuple[tuple[str, int], tuple[int, Payload] | None] | None:
        """See `manyhands._io.open_job.Input`."""
        sink = self._sink
        if self._state not in ENDED:
            if self._index is None or sink is None:
                return None
            sink.stay(self._index, self)
            return (sink.job.id, self._index), None
        if self._index is None or sink is None:
            # It was not even sent: no job of this name is there, and the broker asks here.
            return ("unsent", next(_unsent)), self._ended()
        return (sink.job.id, self._index), self._ended()

    def _ended(self) -> tuple[int, Payload]:
        body = self._body  # before the other, which takes its place
        if self.cancelled():
            return Status.CANCELLED, b""
        if body is not None:
            return self._status, body
        if self._packed is not None:
            return self._packed
        assert self._exception is not None, "what came back is kept, or it failed here"
        return Status.RAISED, of_exception(self._exception).encode()

    def _ask(self) -> None:
        """Have the result come, for a thread wants to know of it."""
        sink = self._sink
        if sink is not None and self._state not in ENDED:
            sink.ask(self)

    def settle_quietly(self, body: Payload) -> bool:
        """End with a result; false where another thread has to be told of it."""
        with _birth:
            if self._complete or self._span is not None or self._state in ENDED:
                return False
            self._body = body
            self._state = FINISHED
        return True

    def done(self) -> bool:
        """Whether it has ended, one way or another."""
        if self._is_input and not self._complete and self._state not in ENDED:
            _ = self._condition  # which asks for it
        return self._state in ENDED

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state == CANCELLED_AND_NOTIFIED

    def cancel(self) -> bool:
        """Cancel the task, whether it waits or runs; false if it has ended already."""
        if not self.done():
            sink = self._sink
            if sink is not None:
                sink.cancel(self)  # first: should an exception come now, the I/O thread does all
            self._settle(Status.CANCELLED, b"")
        return self.cancelled()

    def result(self, timeout: float | None = None) -> Any:
        """The task's result, or its exception with the remote traceback as cause.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
            CancelledError: it was cancelled.
            TaskError: it was lost, it crashed, or its result could not travel or be loaded.
        """
        if self._state is not FINISHED:
            timeout = self._await(timeout)
        if self._body is not None:
            self._load(timeout)
        if self._exception is None:
            return self._result
        try:
            raise self._exception
        finally:
            self = None  # type: ignore[assignment]  # noqa: PLW0642 - else the traceback holds us

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The task's exception, `None` if it has a result. Raises as `result` does."""
        if self._state is not FINISHED:
            timeout = self._await(timeout)
        if self._body is not None:
            self._load(timeout)
        return self._exception

    def _get_snapshot(self) -> tuple[bool, bool, Any, BaseException | None]:
        """Return whether it is done and cancelled, its result and its exception.

        asyncio asks for them so from Python 3.14 on; the base class does not know of a result that is
        still to be unpickled.
        """
        if self._state is FINISHED and self._body is not None:
            self._load(None)
        return self.done(), self.cancelled(), self._result, self._exception

    def _await(self, timeout: float | None) -> float | None:
        """Wait until it has ended; what is left of `timeout` then."""
        deadline = None if timeout is None else monotonic() + timeout
        sink = self._sink
        if sink is not None and not self._is_input:
            sink.spin(self, timeout)
            if self._state is FINISHED:
                return _left(deadline)
        with self._condition:
            if self._state not in ENDED:
                if sink is not None:
                    sink.check_may_wait()
                self._condition.wait(_left(deadline))
            if self._state not in ENDED:
                raise TimeoutError
        if self.cancelled():
            raise CancelledError
        return _left(deadline)

    def _load(self, timeout: float | None) -> None:
        """Unpickle what came back; one thread does, and others wait for it.

        Should an exception end it (Ctrl-C), the next one who asks begins anew.

        Raises:
            TimeoutError: another thread has been at it for `timeout` seconds.
        """
        if self._load_plain():
            return
        me = threading.get_ident()
        if self._loader is not None and self._loader != me:
            self._await_loader(timeout)
        while (body := self._body) is not None:
            self._loader = me
            try:
                sink = self._sink
                safe = sink is not None and sink.safe
                result, exception = load(self._status, body, safe=safe, exits=True)
                if self._is_input:
                    self._packed = self._status, body
                if self._body is not None:  # a handler in here may have asked as well
                    self._result, self._exception, self._body = result, exception, None
                if not (safe or self._is_input):  # who asks just now must go on to see that it is
                    self._sink = None  # which holds the function, with all that this refers to
            finally:
                self._loader = None

    def _load_plain(self) -> bool:
        """Unpickle a result of built-in values alone, as most are; false if it is not such a one.

        To load it runs no code. So no thread has to wait for another one: the first that is ready gives
        its value to all.
        """
        body, sink = self._body, self._sink
        if (
            type(body) is not bytes
            or self._status != _OK
            or self._is_input
            or sink is None
            or sink.safe
            or STACK_GLOBAL in body
        ):
            return False
        try:
            value = load_plain(body)
        except Exception as error:
            if is_from_handler(error):
                raise
            return False
        if self._body is not None:  # no call from here on: another thread cannot come between
            self._result, self._sink, self._body = value, None, None
        return True

    def _await_loader(self, timeout: float | None) -> None:
        deadline = None if timeout is None else monotonic() + timeout
        pause = threading.Event()
        while self._loader is not None:
            left = _left(deadline)
            if left == 0:
                raise TimeoutError
            pause.wait(_POLL_SECONDS if left is None else min(left, _POLL_SECONDS))

    def _invoke_callbacks(self) -> None:
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException as error:  # SystemExit too: it would end the I/O thread
                if is_from_handler(error):
                    raise
                log.exception("a done-callback of %r raised; its result is not affected", self)

    def _settle(self, status: int, body: Payload) -> None:
        """End it, unless it has ended; wake those that wait."""
        with self._condition:
            if self._state in ENDED:
                self._condition.notify_all()  # who ended it may not have come to that
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
        self._invoke_callbacks()

    def _end_by(self, end: Callable[..., None], *arguments: Any) -> None:
        """Call `end`, on the I/O thread, which must not wait for a lock that is never released.

        A signal handler that raises in `concurrent.futures.wait` may leave one held for good.
        """
        global _held_until  # noqa: PLW0603 - of the I/O thread, which all futures wait for
        patience = 0.0 if monotonic() < _held_until else _HELD_SECONDS
        if self._condition.acquire(timeout=patience):
            self._condition.release()
            end(*arguments)
            return
        _held_until = monotonic() + _HELD_PAUSE_SECONDS
        thread = threading.Thread(target=end, args=arguments, name="manyhands-settle", daemon=True)
        if not thread_start.start(thread):
            # What waits for that lock waits for good. All others see that it has ended.
            self._condition = threading.Condition()
            end(*arguments)

    def _fail(self, error: BaseException) -> None:
        """End it with an exception of our own, unless it has ended."""
        with suppress(InvalidStateError):
            self.set_exception(error)

    def _orphan(self, error: BaseException) -> None:
        """In a forked child: end it, and call nothing that belongs to the parent."""
        if self._state not in ENDED:
            self._waiters, self._done_callbacks = [], []
            self._condition, self._complete = threading.Condition(), True
            self._exception, self.is_orphan, self._state = error, True, FINISHED


class FailedInput(BaseException):
    """A future among the arguments of a task has failed, and so the task does."""

    def __init__(self, future: RemoteFuture) -> None:
        super().__init__()
        self._future = future

    def future(self) -> RemoteFuture:
        """The task's future: it ends as the argument did."""
        dependent = RemoteFuture(None)
        if self._future.cancelled():
            dependent._settle(Status.CANCELLED, b"")
        else:
            error = self._future.exception()
            assert error is not None, "it has failed"
            dependent._fail(error)
        return dependent


_unsent = count()
ENDED = (FINISHED, CANCELLED_AND_NOTIFIED)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - monotonic())


def resolve(futures: Sequence[RemoteFuture], statuses: bytes, bodies: list[Payload]) -> None:
    """End many futures; those that no thread has touched yet in a few instructions each."""
    others = []
    for start in range(0, len(futures), _BATCH):
        batch = slice(start, start + _BATCH)
        failed = any(statuses[batch])
        with _birth:
            for position, future in enumerate(futures[batch], start):
                if failed or future._complete:
                    others.append(position)
                elif future._state is PENDING:
                    future._body = bodies[position]
                    future._state = FINISHED
    for position in others:
        future = futures[position]
        future._end_by(future._settle, statuses[position], bodies[position])


def _renew_lock() -> None:
    """In a forked child: its holder may not be here."""
    global _birth  # noqa: PLW0603 - there is one for all futures
    _birth = threading.RLock()


before_orphans.append(_renew_lock)
