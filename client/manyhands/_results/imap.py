"""What `Pool.imap` and `Pool.imap_unordered` return, and the thread that reads their input.

A thread of its own reads the input, as in `multiprocessing`, but never far ahead of the consumer. It
reads as many tasks as keep the slots busy, and more when results come faster than they are asked for.
When the pool is closed it reads all: who waits for the end of the pool may want the results after that.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from manyhands._results.outcome import outcome
from manyhands._results.pool_errors import as_pool_raises
from manyhands_shared.conditions import Condition
from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.thread_start import must_start

#: The read-ahead doubles, up to this many tasks, whenever the consumer waits less than that long.
_MOST_AHEAD = 4_096
_SHORT_WAIT_SECONDS = 0.02
#: What came of a row: status and payload of its task, or why it could not be sent.
_Item = tuple[int, Payload] | SubmitError


class ImapStream:
    """Results on their way to the consumer; the sink of the job."""

    def __init__(self, ahead: int, *, ordered: bool) -> None:
        self.changed = Condition()
        self.ahead = ahead
        #: Whether the input is read to its end, however far the consumer is.
        self.hurries = False
        self.ordered = ordered
        self.submitted = 0
        self.taken = 0
        #: Whether the input is read no more; whether that is its end, and not that of the pool.
        self.exhausted = False
        self.whole = True
        #: What the input raised.
        self.input_error: BaseException | None = None
        #: The consumer wants no more of it.
        self.abandoned = False
        self.error: BaseException | None = None
        self._arrived: dict[int, _Item] = {}
        self._order: deque[int] = deque()  # of arrival
        # For each row that could not be sent: how many tasks were sent before it.
        self._refused: list[int] = []

    def pop(self) -> _Item | None:
        """The next result in order, or any; with `changed` held."""
        if self.ordered:
            index = self.taken
        elif self._order:
            index = self._order.popleft()
        else:
            return None
        item = self._arrived.pop(index, None)
        if item is not None:
            self.taken += 1
            self.changed.notify_all()
        return item

    def accept(self, _first: int, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""

    def reject(self, _entries: Sequence[Any], _payloads: Sequence[Payload], /) -> None:
        """See `Sink`."""

    def deliver(self, indices: list[int], statuses: bytes, bodies: list[Payload]) -> None:
        """See `Sink`."""
        with self.changed.lock:
            if not self.abandoned:
                rows = [index + bisect_right(self._refused, index) for index in indices]
                self._arrived.update(zip(rows, zip(statuses, bodies, strict=True), strict=True))
                if not self.ordered:
                    self._order.extend(rows)
                self.changed.notify_all()

    def refuse(self, error: SubmitError) -> None:
        """The last row cannot be sent: it fails alone, as in multiprocessing."""
        with self.changed.lock:
            row = self.submitted - 1
            self._refused.append(row - len(self._refused))
            self._arrived[row] = error
            if not self.ordered:
                self._order.append(row)
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """See `Sink`."""
        with self.changed.lock:
            self.error = error
            self.changed.notify_all()

    @property
    def waits(self) -> bool:
        """See `Sink`."""
        return not self.abandoned

    def orphan(self, error: BaseException, _entries: Sequence[Any], /) -> None:
        """See `Sink`."""
        self.changed = Condition()
        self.error = error

    def hurry(self) -> None:
        """Read the input to its end: the pool waits for that."""
        with self.changed.lock:
            self.hurries = True
            self.changed.notify_all()

    def abandon(self) -> None:
        """The consumer is gone."""
        with self.changed.lock:
            self.abandoned = True
            self._arrived.clear()
            self.changed.notify_all()


class IMapIterator:
    """Results in the order of the input. As in `multiprocessing.pool`.

    Args:
        ahead: how far the input is read ahead at first, in tasks.
        ordered: give results in the order of the input, or as they come.
        pool: lives until the last result was taken, wherever else it is dropped.
    """

    #: Called before `next` returns what has come.
    before_next: Callable[[], None] | None = None

    def __init__(self, ahead: int, *, ordered: bool, pool: object = None) -> None:
        self._stream = ImapStream(ahead, ordered=ordered)
        self._pool = pool
        weakref.finalize(self, self._stream.abandon).atexit = False

    @property
    def sink(self) -> ImapStream:
        """Where the job's results go."""
        return self._stream

    def __iter__(self) -> Iterator[Any]:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next result; or raise what its call, or the input, raised.

        Raises:
            multiprocessing.TimeoutError: it is not there within `timeout` seconds.
            StopIteration: there are no more.
        """
        stream = self._stream
        with stream.changed.lock:
            item = stream.pop()
            if item is None:
                item = self._wait(stream, timeout)
        if self.before_next is not None:
            self.before_next()
        # What is raised has this frame in its traceback: it must not keep the iterator.
        del self
        if isinstance(item, SubmitError):
            raise item
        value, error = outcome(*item)
        if error is not None:
            raise as_pool_raises(error)
        return value

    # Not a method around it: its frame would hold the iterator too.
    __next__ = next  # noqa: A003

    def _wait(self, stream: ImapStream, timeout: float | None) -> _Item:
        began = time.monotonic()
        while True:
            ended = stream.exhausted and stream.taken == stream.submitted
            if ended and (stream.whole or stream.error is None):
                error, stream.input_error = stream.input_error, None
                self._pool = None
                raise error if error is not None else StopIteration
            if stream.error is not None:
                raise stream.error
            left = None if timeout is None else began + timeout - time.monotonic()
            if left is not None and left <= 0:
                raise multiprocessing.TimeoutError
            was_full = stream.submitted - stream.taken >= stream.ahead
            stream.changed.wait(left)
            item = stream.pop()
            if item is not None:
                if was_full and time.monotonic() - began < _SHORT_WAIT_SECONDS:
                    stream.ahead = min(2 * stream.ahead, _MOST_AHEAD)
                return item


def feed(
    stream: ImapStream,
    rows: Iterable[Any],
    submit: Callable[[Any], None],
    done: Callable[[], None],
) -> threading.Thread:
    """Start the thread that reads `rows`, submits each, and calls `done` at the end.

    Raises:
        OSError: the system gives no thread. The stream is abandoned, and `done` was called.
    """

    def run() -> None:
        try:
            stream.whole = False
            for row in rows:
                with stream.changed.lock:
                    stream.changed.wait_for(lambda: _may_go_on(stream))
                    if stream.abandoned or stream.error is not None:
                        return
                    stream.submitted += 1
                try:
                    submit(row)
                except SubmitError as error:
                    stream.refuse(error)
                except BaseException:
                    stream.submitted -= 1
                    raise
            stream.whole = True
        # `SystemExit` too: without it the results would seem to be whole.
        except BaseException as error:  # noqa: BLE001 - the consumer is to see whatever the input raised
            stream.input_error = error
        finally:
            with stream.changed.lock:
                stream.exhausted = True
                stream.changed.notify_all()
            done()

    thread = threading.Thread(target=run, name="manyhands-imap", daemon=True)
    try:
        must_start(thread)
    except OSError:
        stream.abandon()
        done()
        raise
    return thread


def _may_go_on(stream: ImapStream) -> bool:
    return (
        stream.submitted - stream.taken < stream.ahead
        or stream.hurries
        or stream.abandoned
        or stream.error is not None
    )
