"""The results that a pool child hands over in one message.

A message costs as much as several quick tasks. So results wait for those behind them, for a few
milliseconds of work. Two threads use a batch, each under its lock: one runs the tasks, the other hands
results over while a task takes long (see `early_sender`).
"""

from __future__ import annotations

import threading
import time

from manyhands_shared.coordination import pool_child
from manyhands_shared.payloads import refs
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.status import Status
from manyhands_worker.child.results.usage import Usage
from manyhands_worker.child_status import REVOKED
from manyhands_worker.ipc.output_redirect import flush_streams
from manyhands_worker.ipc.pipe import Writer
from manyhands_worker.ipc.segments import SegmentWriter
from manyhands_worker.ipc.slab import SlabWriter

#: A child hands finished results over at least this often, however long its batch. That is as much work
#: as a batch mostly is: half of it was a second message for each.
_FLUSH_NS = 10_000_000
#: The same of programs that end well and soon. Around each the caches are cold: a message costs more.
_GROUP_NS = 40_000_000
_FLUSH_BYTES = 1 << 20
#: A pickle beyond this goes the way of arrays; below, it rides in the header.
INLINE_BYTES = 64 << 10


class ResultBatch:
    """What has been collected and not been sent.

    Args:
        writer: leads to the node.
        slab: takes large results.
        segments: take large results that clients map themselves.
    """

    def __init__(self, writer: Writer, slab: SlabWriter, segments: SegmentWriter) -> None:
        #: Held by who changes or sends it.
        self.lock = threading.Lock()
        self._writer = writer
        self._slab = slab
        self._segments = segments
        self._usage = Usage()
        # When what is reported next began.
        self._begun = self._sent_at = 0
        self._start(0)

    def _start(self, first: int) -> None:
        """Begin to collect results, the first of them for serial `first`."""
        self._first = first
        self._statuses = bytearray()
        self._bodies: list[bytes | int | list[int]] = []
        self._buffers: list[memoryview] = []
        self._fds: list[int] = []
        self._inline = 0
        self._spent = 0

    def begin(self, first: int, now: int) -> None:
        """Tasks run from `now` on (`time.monotonic_ns`), the first of them with serial `first`.

        All results of the batch before are sent.
        """
        self._first = first
        self._begun = self._sent_at = now

    def __len__(self) -> int:
        return len(self._statuses)

    def add(self, number: int, status: int, payload: Payload, *, direct: bool) -> bool:
        """Add a result to those that go out next. Returns whether it is a large one."""
        self._statuses.append(status)
        if isinstance(payload, bytes) and len(payload) <= INLINE_BYTES:
            self._bodies.append(payload)
            self._inline += len(payload)
            return False
        parts = [memoryview(p) for p in (payload if isinstance(payload, tuple) else (payload,))]
        lengths = [part.nbytes for part in parts]
        direct = direct and status == Status.OK
        if direct and (there := self._segments.write(parts)) is not None:
            segment, fd = there
            self._bodies.append([-1 - segment, *lengths])
            self._fds.append(fd)
            return True
        position = self._slab.write(number, parts)
        if position is None:
            self._bodies.append(len(parts))
            self._buffers += parts
        else:
            self._bodies.append([position, *lengths])
        return True

    def give_back(self, count: int, why: bytes) -> None:
        """Add the last tasks of a batch, which have not run: they are revoked, or one lacks a value."""
        self._statuses += bytes([REVOKED]) * count
        self._bodies += [why] + [b""] * (count - 1)

    def ran(self, before: int, now: int, grouped: bool) -> bool:
        """Note that a task has run from `before` to `now`. Returns whether to send."""
        self._spent += now - before
        waited = now - self._sent_at
        if waited <= _FLUSH_NS:  # as nearly always
            return self._inline > _FLUSH_BYTES
        is_soon = grouped and now - before < _FLUSH_NS and not any(self._statuses)
        return waited > _GROUP_NS or not is_soon

    def send(self) -> None:
        """Hand all over, between two tasks."""
        # How long values were on their way says nothing of the next tasks.
        self._send(max(0, self._spent - refs.take_waited()))

    def send_early(self) -> None:
        """Hand all over while a task runs, which may be waiting for values."""
        self._send(self._spent)

    def _send(self, nanoseconds: int) -> None:
        flush_streams()  # what tasks have printed is there before their results
        if pool_child.sync_writes is not None:
            pool_child.sync_writes()
        run = [self._begun, *self._usage.of(self._spent)]
        self._writer.send(
            [self._first, bytes(self._statuses), self._bodies, nanoseconds / 1e9, "", run],
            self._buffers,
            self._fds,
        )
        self._begun += self._spent
        self._sent_at = time.monotonic_ns()
        self._start(self._first + len(self._statuses))
