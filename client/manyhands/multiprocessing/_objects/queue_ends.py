"""The ends of a queue, as programs know them that look at `_reader` and `_writer` of the standard one.

There is no pipe. A reading end has a descriptor once it is asked for one: it can be read while the queue
may have an item. A thread waits for the first item then, without taking it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Any

from manyhands.multiprocessing import reduction
from manyhands.multiprocessing._objects.feeder import FedQueue
from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.processes.thread_start import must_start

#: How long the thread waits before it looks whether the queue is still of use here.
_LOOK_SECONDS = 30.0


class ReadingEnd:
    """Where items come out.

    Args:
        queue: the queue's state.
    """

    readable, writable = True, False

    def __init__(self, queue: FedQueue) -> None:
        self._queue = queue
        self._signal: _Signal | None = None
        self._making = threading.Lock()
        self.closed = False

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is an item; wait for one, `timeout` seconds at most.

        Raises:
            OSError: the end is closed.
        """
        if self.closed:
            raise OSError("handle is closed")
        if timeout is None or timeout > 0:
            if waits(self._queue, timeout):
                return True
        elif size(self._queue) > 0:
            return True
        self.looked()
        return False

    def recv(self) -> Any:
        """Take the first item; wait for one.

        Raises:
            OSError: the end is closed.
        """
        if self.closed:
            raise OSError("handle is closed")
        response = self._queue.request(Operation.GET, True, None)
        assert response is not None
        self.looked()
        return reduction.loads(response.bodies[0])

    def fileno(self) -> int:
        """Return a descriptor that can be read while the queue may have an item.

        It is so until this process looks and finds none, or takes the last.

        Raises:
            OSError: the end is closed, the queue is lost, or the system gives no descriptor or thread.
            ConfigError, BrokerUnreachable, NotAuthorised, Refused: the cluster does not take it.
        """
        if self.closed:
            raise OSError("handle is closed")
        if self._signal is None:
            # This makes the queue, if need be. The thread could not say why it cannot be made.
            size(self._queue)
        with self._making:
            if self._signal is None:
                self._signal = _Signal(self._queue)
            return self._signal.descriptor

    def looked(self) -> None:
        """This process has looked for an item, or has taken one: have the descriptor tell anew."""
        if self._signal is not None:
            self._signal.renew()

    def close(self) -> None:
        """Close this end, for this process."""
        self.closed = True
        self._signal = None


class WritingEnd:
    """Where items go in. It is never full."""

    readable, writable = False, True

    def __init__(self) -> None:
        self._descriptor: _Descriptor | None = None
        self.closed = False

    def fileno(self) -> int:
        """Return a descriptor that can always be written to, for `select`.

        Raises:
            OSError: the end is closed.
        """
        if self.closed:
            raise OSError("handle is closed")
        self._descriptor = self._descriptor or _Descriptor()
        return self._descriptor.number

    def close(self) -> None:
        """Close this end, for this process."""
        self.closed = True
        self._descriptor = None


def size(queue: FedQueue) -> int:
    """Return how many items there are, those of this process that are on their way among them."""
    response = queue.request(Operation.SIZE)
    assert response is not None
    return int(response.arguments[0]) + queue.backlog


def waits(queue: FedQueue, seconds: float | None) -> bool:
    """Wait until there is an item, and leave it there; false if there is none in time."""
    response = queue.request(Operation.WAIT, True, seconds, seconds=seconds)
    return response is not None and response.outcome == Outcome.OK


class _Descriptor:
    """A counter of the system's, closed with its last reference."""

    def __init__(self) -> None:
        self.number = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._close = weakref.finalize(self, os.close, self.number)
        self._close.atexit = False


class _Signal:
    """A descriptor that can be read while a queue may have an item, and the thread that sees to it."""

    def __init__(self, queue: FedQueue) -> None:
        self._own = _Descriptor()
        self._wanted = threading.Event()
        self._wanted.set()
        must_start(
            threading.Thread(
                target=_watch,
                args=(weakref.ref(self), queue, self._wanted),
                name="manyhands-queue-watch",
                daemon=True,
            )
        )

    @property
    def descriptor(self) -> int:
        """Its number."""
        return self._own.number

    def renew(self) -> None:
        """Look again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.descriptor)
            self._wanted.set()

    def tell(self) -> None:
        """Have the descriptor readable."""
        os.eventfd_write(self.descriptor, 1)


def _watch(reference: weakref.ref[_Signal], queue: FedQueue, wanted: threading.Event) -> None:
    """Tell when there is an item, each time that is wanted, as long as there is a descriptor."""
    while reference() is not None:
        if not wanted.wait(_LOOK_SECONDS):
            continue
        try:
            found = waits(queue, _LOOK_SECONDS)
        except (SharedStateLost, ValueError, OSError):
            # The next `get` says what is wrong.
            found = True
        if found and (signal := reference()) is not None:
            wanted.clear()
            signal.tell()
        signal = None
