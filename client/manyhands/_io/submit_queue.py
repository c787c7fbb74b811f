"""The bounded queue between the threads that submit and the I/O thread that sends.

`collections.deque` is safe to share without a lock, and the I/O thread is woken only if it sleeps. So a
submission costs little more than an append. Two races are closed by order alone:

- the I/O thread first says that it sleeps and then looks into the queue. A caller first appends and
  then looks whether it sleeps. One of them sees the other.
- the queue is shut before its rest is rejected. A caller looks whether it is shut after the append.
  One of them rejects the entry.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from manyhands._io.open_job import OpenJob
from manyhands_shared.conditions import Condition
from manyhands_shared.errors import SubmitError, SubmitQueueFull
from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.text import amount

#: Arguments from here on count against the bound from the moment of the call, smaller ones from
#: when the I/O thread takes them up.
LARGE_BYTES = 64 * 1024
# Long enough to cost nothing, short enough to go unnoticed should a wake-up go missing.
_RECHECK_SECONDS = 0.1
#: Entries behind which a caller lets the I/O thread have the interpreter, and for how long.
#: A caller that never pauses may keep it from that thread. Each short system call of the caller, as for
#: a line of a file, begins the wait of that thread anew.
BACKLOG = 2048
_GIVE_WAY_SECONDS = 0.02


class SubmitQueue:
    """Tasks and commands on their way to the I/O thread.

    Args:
        max_tasks: unfinished tasks in this process before `put` waits.
        max_bytes: the same in bytes of their arguments; one task is always let through.
    """

    def __init__(self, max_tasks: int, max_bytes: int) -> None:
        #: Why nothing can be submitted any more; `None` while all is well.
        self.error: BaseException | None = None
        self.is_shut = False
        #: The largest arguments that the broker takes.
        self.task_bytes = max_bytes
        #: The I/O thread, which must never wait for itself.
        self.owner: int | None = None
        #: The number of the I/O thread's sleep, while it sleeps or is about to; else 0.
        self.asleep = 0
        #: Sends a task in the thread that brings it, if it may; or says no. See `inline`.
        self.send_here: Callable[[OpenJob, Any, bytes], bool] = lambda *_: False
        self._max_tasks = max_tasks
        self._max_bytes = max_bytes
        self._queue: deque[tuple[Any, Any, Any]] = deque()
        # What the I/O thread holds, as of its last turn; the queue comes on top.
        self._unended_tasks = 0
        self._unended_bytes = 0
        self._large_bytes = 0  # of large arguments in the queue
        # How long the queue is when `put` looks closer, and how long when a caller gives way again.
        self._most = min(max_tasks, BACKLOG)
        self._gives_way_at = BACKLOG
        self._room = Condition()
        self._waiting = 0
        self._sleeps = 0
        self._told = 0  # the last sleep that it was woken from
        self.wake_fd, self._wake_in = os.pipe()
        for fd in (self.wake_fd, self._wake_in):
            os.set_blocking(fd, False)
        # Not while a thread may still wake it: a number that is closed may soon mean another file.
        weakref.finalize(self, _close, self.wake_fd, self._wake_in).atexit = False
        #: Wakes the I/O thread in one step that nothing interrupts; `BlockingIOError`: it is awake.
        self.ring = partial(os.write, self._wake_in, b"\0")

    # For any thread -----------------------------------------------------------------------------

    def put(self, job: OpenJob, entry: Any, payload: Payload, *, block: bool = True) -> None:
        """Queue one task of a job; `entry` is what the job's sink will know it by.

        Raises:
            SubmitQueueFull: the bound is reached and `block` is false.
            SubmitError: the broker can never take arguments of this size.
            ManyhandsError: the session has failed or was closed.
        """
        queue = self._queue
        if type(payload) is not bytes or len(payload) >= LARGE_BYTES:
            self._put_large(job, entry, payload, block=block)
            return
        if len(queue) >= self._most:
            self._wait_for_room(0, block=block)
        if self.asleep > self._told and not queue and self.send_here(job, entry, payload):
            return
        try:
            queue.append((job, entry, payload))
        finally:  # also if an exception comes behind that: nothing else would tell of it
            if self.asleep > self._told:
                self.wake()
        if self.is_shut:
            self.reject()

    def command(self, command: Callable[[], None]) -> None:
        """Have the I/O thread call this, behind everything queued before."""
        try:
            self._queue.append((None, command, None))
        finally:  # as in `put`
            if self.asleep > self._told:
                self.wake()
        if self.is_shut:
            self.reject()

    def wake(self) -> None:
        """Have the I/O thread look into the queue."""
        sleep = self.asleep
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so it is awake
            self.ring()
        # Behind the bell: should an exception end this in between, it is rung once more.
        self._told = sleep

    def reject(self) -> None:
        """Once shut: turn away what is queued."""
        with contextlib.suppress(IndexError):
            while True:
                job, entry, payload = self._queue.popleft()
                if job is None:
                    entry()
                else:
                    job.sink.reject([entry], [payload])

    def check(self) -> None:
        """Raise the error with which the session has ended, if it has."""
        if self.error is not None:
            raise self.error

    def check_size(self, size: int) -> None:
        """Refuse arguments that the broker can never take.

        Raises:
            SubmitError: they are too large.
        """
        if size > self.task_bytes:
            raise SubmitError(
                f"arguments of {size} bytes are more than the {self.task_bytes} that the broker "
                "takes; pass the name of a file, or smaller parts"
            )

    def _put_large(self, job: OpenJob, entry: Any, payload: Payload, *, block: bool) -> None:
        self.check()
        size = nbytes(payload)
        self.check_size(size)
        self._wait_for_room(size, block=block)
        with self._room.lock:
            self._large_bytes += size
            self._queue.append((job, entry, payload))  # next to it: no exception comes between
        if self.asleep > self._told:
            self.wake()
        if self.is_shut:
            self.reject()

    def _wait_for_room(self, size: int, *, block: bool) -> None:
        self.check()
        if threading.get_ident() == self.owner:
            return  # it is in a callback that submits: to wait here were to wait for itself
        if self._has_room(size):
            self._give_way()
            return
        if not block:
            already = amount(self._unended_tasks + len(self._queue), "task")
            raise SubmitQueueFull(
                f"the queue has {already} already; take results first, raise "
                "max_pending, or submit with block=True"
            )
        with self._room.lock:
            self._waiting += 1
            try:
                while self.error is None and not self._has_room(size):
                    if self.asleep > self._told:
                        self.wake()
                    self._room.wait(_RECHECK_SECONDS)
            finally:
                self._waiting -= 1
        if self.error is not None:
            raise self.error

    def _give_way(self) -> None:
        """Let the I/O thread take the queue; once for each `BACKLOG` of entries, if it does not."""
        with self._room.lock:
            if len(self._queue) < self._gives_way_at:
                return
            self._gives_way_at += BACKLOG
            self._waiting += 1
            try:
                self._room.wait(_GIVE_WAY_SECONDS)
            finally:
                self._waiting -= 1

    def _has_room(self, size: int) -> bool:
        there = self._unended_bytes + self._large_bytes
        return self._unended_tasks + len(self._queue) < self._max_tasks and (
            there + size <= self._max_bytes or not there
        )

    # For the I/O thread -------------------------------------------------------------------------

    def about_to_sleep(self) -> bool:
        """Say so; true if nothing is queued, so that it may."""
        self._sleeps += 1
        self.asleep = self._sleeps
        return not self._queue

    def woken(self) -> None:
        """It does not sleep any more."""
        self.asleep = 0

    def hush(self) -> None:
        """Empty the pipe."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_fd, 4096)

    def take(self) -> list[tuple[Any, Any, Any]]:
        """Everything queued: `(job, entry, payload)`, or `(None, command, None)`."""
        queue = self._queue
        waiting = len(queue)
        self._unended_tasks += waiting  # counted here before they are gone from there
        self._gives_way_at = BACKLOG
        self._bound()
        taken = [queue.popleft() for _ in range(waiting)]
        if self._large_bytes:
            large = sum(
                nbytes(body)
                for job, _, body in taken
                if job is not None and (type(body) is not bytes or len(body) >= LARGE_BYTES)
            )
            with self._room.lock:
                self._unended_bytes += large
                self._large_bytes -= large
        return taken

    @property
    def waiting(self) -> int:
        """How many tasks are queued."""
        return sum(job is not None for job, _, _ in tuple(self._queue))

    @property
    def empty(self) -> bool:
        """Whether nothing is queued."""
        return not self._queue

    def publish(self, unended_tasks: int, unended_bytes: int) -> None:
        """What the I/O thread holds now; lets in those who wait for room."""
        self._unended_tasks, self._unended_bytes = unended_tasks, unended_bytes
        self._bound()
        if self._waiting:
            with self._room.lock:
                self._room.notify_all()

    def shut(self, error: BaseException) -> None:
        """Take nothing any more."""
        self.error = error
        self.is_shut = True
        self._bound()
        with self._room.lock:
            self._room.notify_all()

    def orphan(self, error: BaseException) -> list[tuple[OpenJob, Any]]:
        """Shut it in a forked child, with new locks, and return the tasks that are queued."""
        self.error = error
        self.is_shut = True
        self._bound()
        self._room = Condition()
        self.asleep = 0
        queue, self._queue = self._queue, deque()
        return [(job, entry) for job, entry, _ in queue if job is not None]

    def _bound(self) -> None:
        """Note how many entries `put` may add without a closer look."""
        if self.error is not None or self._unended_bytes > self._max_bytes:
            self._most = 0
        else:
            self._most = min(self._max_tasks - self._unended_tasks, BACKLOG)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
