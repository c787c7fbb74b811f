"""The way of a process's items into a queue that has no bound.

An item is sent at once, in the caller's thread, as long as the keeper is known to keep up. After
`CREDIT_ITEMS` or `CREDIT_BYTES` without its word the rest gathers here. A thread sends that in batches
when the keeper says that it has room. So `put` never blocks, and its producer holds what is held up.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from multiprocessing import util

from manyhands.multiprocessing._objects.shared_object import SharedObject
from manyhands_shared.conditions import Condition
from manyhands_shared.coordination.kinds import Kind, Operation
from manyhands_shared.errors import SharedStateLost
from manyhands_shared.payloads.payload import Payload, nbytes, total
from manyhands_shared.processes.thread_start import must_start

#: What is sent without the keeper's word, and what a batch holds.
CREDIT_ITEMS = 1_024
CREDIT_BYTES = 1 << 20
#: Seconds after which the broker is asked again that had no room for any queue.
_FULL_SECONDS = 1.0


class FedQueue(SharedObject):
    """A queue, with the items of this process that are not there yet."""

    def __init__(
        self, kind: Kind, facts: Sequence[int], label: str, key: bytes | None = None
    ) -> None:
        super().__init__(kind, facts, label, key)
        self._backlog: deque[Payload] = deque()
        self._changed = Condition()
        self._thread: threading.Thread | None = None
        #: What was sent since the keeper has last said that it has room.
        self._sent_items = 0
        self._sent_bytes = 0
        #: Whether this process may end before its items are there.
        self.abandons = False
        self._joins = False

    @property
    def backlog(self) -> int:
        """Items that were put here and have not been sent."""
        return len(self._backlog)

    def put(self, payload: Payload) -> None:
        """Send an item, or keep it until there is room; never block.

        Raises:
            OSError: it cannot be kept, as the system gives no thread that would send it.
        """
        payload = _owned(payload)
        with self._changed.lock:
            if self._thread is None and self._has_credit(payload):
                self._send([payload])
                return
            if self._thread is None:
                self._start()
            self._backlog.append(payload)

    def put_and_wait(self, payload: Payload) -> None:
        """Send an item, in this thread; block while the keeper has no room."""
        payload = _owned(payload)
        if not self._has_credit(payload):
            self._await_room()
        with self._changed.lock:
            self._send([payload])

    def flush(self) -> None:
        """Wait until all that this process has put is sent."""
        with self._changed.lock:
            self._changed.wait_for(lambda: self._thread is None)

    def _has_credit(self, payload: Payload) -> bool:
        fits = self._sent_bytes + nbytes(payload) <= CREDIT_BYTES or not self._sent_items
        return fits and self._sent_items < CREDIT_ITEMS

    def _send(self, batch: list[Payload]) -> None:
        self.tell(Operation.PUT, False, None, bodies=batch)
        self._sent_items += len(batch)
        self._sent_bytes += total(batch)

    def _await_room(self) -> None:
        """Wait until the keeper has all that was sent, and takes more."""
        self.request(Operation.PUT, True, None)
        self._sent_items = self._sent_bytes = 0

    def _start(self) -> None:
        """Start the thread, which first waits for the lock that the caller has."""
        thread = threading.Thread(target=self._feed, name="QueueFeederThread", daemon=True)
        must_start(thread)
        self._thread = thread
        if not self._joins:
            self._joins = True
            util.Finalize(self, _flush_at_exit, [weakref.ref(self)], exitpriority=-5)

    def _feed(self) -> None:
        told = False
        while self._has_more():
            try:
                self._await_room()
            except SharedStateLost:
                # The program is over, or the queue is: its users are told by their own operations.
                with self._changed.lock:
                    self._backlog.clear()
            except OSError as error:
                if not told:
                    print(f"manyhands: {error}; its items wait here", file=sys.stderr)
                told = True
                time.sleep(_FULL_SECONDS)
                continue
            with self._changed.lock, contextlib.suppress(SharedStateLost):
                if batch := self._take():
                    self._send(batch)

    def _has_more(self) -> bool:
        """Return whether something waits to be sent; if not, the thread is about to end."""
        with self._changed.lock:
            if not self._backlog:
                self._thread = None
                self._changed.notify_all()
            return self._thread is not None

    def _take(self) -> list[Payload]:
        batch: list[Payload] = []
        size = 0
        while self._backlog and len(batch) < CREDIT_ITEMS and size < CREDIT_BYTES:
            batch.append(self._backlog.popleft())
            size += nbytes(batch[-1])
        return batch


def _owned(payload: Payload) -> Payload:
    """Return a payload that does not change any more: its buffers are the caller's."""
    return tuple(map(bytes, payload)) if isinstance(payload, tuple) else payload


def _flush_at_exit(reference: weakref.ref[FedQueue]) -> None:
    queue = reference()
    if queue is not None and not queue.abandons:
        queue.flush()
