"""Queues whose processes run on any host. Their items are kept by the broker, each until it is taken.

The classes derive from the standard library's; their `put` pickles at once, in the caller's thread.
"""

from __future__ import annotations

from multiprocessing import queues as _standard
from queue import Empty, Full
from typing import TYPE_CHECKING, Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._objects.feeder import FedQueue
from manyhands.multiprocessing._objects.queue_ends import ReadingEnd, WritingEnd, size
from manyhands.multiprocessing._objects.semlock import SEM_VALUE_MAX
from manyhands.multiprocessing._objects.shared_object import c_int, time_limit
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.protocol.messages.coordination import Response

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]

# Type checkers want to know of what; Python before 3.14 does not let them be told.
if TYPE_CHECKING:
    _Queue = _standard.Queue[Any]
    _JoinableQueue = _standard.JoinableQueue[Any]
    _SimpleQueue = _standard.SimpleQueue[Any]
else:
    _Queue = _standard.Queue
    _JoinableQueue = _standard.JoinableQueue
    _SimpleQueue = _standard.SimpleQueue


class Queue(_Queue):
    """A queue, as `multiprocessing.Queue`.

    Args:
        maxsize: how many items it holds before `put` blocks; without bound if it is not positive.
    """

    _shared: FedQueue

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        del ctx
        maxsize = SEM_VALUE_MAX if maxsize <= 0 else c_int(maxsize)
        facts = [maxsize if maxsize < SEM_VALUE_MAX else 0]
        self._adopt(maxsize, FedQueue(Kind.QUEUE, facts, type(self).__name__))

    def _adopt(self, maxsize: int, shared: FedQueue) -> None:
        self._maxsize, self._shared = maxsize, shared
        self._bounded = maxsize < SEM_VALUE_MAX
        self._reader = ReadingEnd(shared)
        self._writer = WritingEnd()
        self._poll = self._reader.poll
        self._closed = False
        self._used = False
        self._ignore_epipe = False

    # Classes that derive from this one add to the state, as they do with the standard library's.
    def __getstate__(self) -> Any:
        return self._ignore_epipe, self._maxsize, self._shared

    def __setstate__(self, state: Any) -> None:
        ignore_epipe, maxsize, shared = state
        self._adopt(maxsize, shared)
        self._ignore_epipe = ignore_epipe

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an object as it is now.

        Raises:
            Full: there is no room, and the time is over.
            ValueError: the queue is closed.
        """
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        self._shared.check_program()
        try:
            pickled = reduction.dumps(obj)
        except Exception as error:  # noqa: BLE001 - whatever the object's pickling raises
            # The standard library's feeder reports it so, and the item is dropped.
            self._on_queue_feeder_error(error, obj)  # type: ignore[attr-defined]
            return
        self._used = True
        if not self._bounded:
            self._shared.put(pickled.payload)
            return
        seconds = time_limit(timeout) if block else None
        response = self._shared.request(
            Operation.PUT,
            bool(block),
            seconds,
            bodies=[pickled.payload],
            seconds=seconds,
            keeper_decides=True,
        )
        assert response is not None
        if response.outcome != Outcome.OK:
            raise Full

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first object.

        Raises:
            Empty: there is none, and the time is over.
            ValueError: the queue is closed.
        """
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        seconds = time_limit(timeout) if block else None
        response = self._take(bool(block), seconds)
        if response is None and not block and self._shared.backlog:
            self._shared.flush()
            response = self._take(False, None)
        self._reader.looked()
        if response is None:
            raise Empty
        return reduction.loads(response.bodies[0])

    def _take(self, block: bool, seconds: float | None) -> Response | None:
        response = self._shared.request(Operation.GET, block, seconds, seconds=seconds)
        return response if response is not None and response.outcome == Outcome.OK else None

    def qsize(self) -> int:
        """Return how many items there are."""
        return size(self._shared)

    def empty(self) -> bool:
        """Return whether there is no item."""
        return not self._poll()

    def full(self) -> bool:
        """Return whether a `put` would have to wait."""
        return self.qsize() >= self._maxsize

    def close(self) -> None:
        """Say that this process puts no more. What it has put is sent."""
        self._closed = True
        if self._used:
            self._reader.close()
            self._writer.close()

    def join_thread(self) -> None:
        """Wait until what this process has put is in the queue."""
        assert self._closed, f"Queue {self!r} not closed"
        if not self._shared.abandons:
            self._shared.flush()

    def cancel_join_thread(self) -> None:
        """Let this process end before what it has put is in the queue."""
        self._shared.abandons = True


class JoinableQueue(Queue, _JoinableQueue):
    """A queue whose items are said to be done, as `multiprocessing.JoinableQueue`."""

    def task_done(self) -> None:
        """Say that an item that was taken is done.

        Raises:
            ValueError: said more often than items were put.
        """
        response = self._shared.request(Operation.DONE)
        assert response is not None
        if response.outcome == Outcome.TOO_MANY:
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Wait until all items are done."""
        self._shared.flush()
        self._shared.request(Operation.JOIN, None)


class SimpleQueue(_SimpleQueue):
    """A queue without a bound, as `multiprocessing.SimpleQueue`."""

    def __init__(self, *, ctx: Any = None) -> None:
        del ctx
        self._adopt(FedQueue(Kind.QUEUE, [0], "SimpleQueue"))

    def _adopt(self, shared: FedQueue) -> None:
        self._shared = shared
        self._reader = ReadingEnd(shared)
        self._writer = WritingEnd()
        self._poll = self._reader.poll

    def __getstate__(self) -> Any:
        return (self._shared,)

    def __setstate__(self, state: Any) -> None:
        (shared,) = state
        self._adopt(shared)

    def close(self) -> None:
        """Close it, for this process."""
        self._reader.close()
        self._writer.close()

    def empty(self) -> bool:
        """Return whether there is no item."""
        return not self._poll()

    def get(self) -> Any:
        """Take the first object; wait for one."""
        return self._reader.recv()

    def put(self, obj: Any) -> None:
        """Put an object as it is now."""
        if self._writer.closed:
            raise OSError("handle is closed")
        self._shared.check_program()
        self._shared.put_and_wait(reduction.dumps(obj).payload)


def __getattr__(name: str) -> Any:
    # What the standard module has besides.
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_standard, name)
