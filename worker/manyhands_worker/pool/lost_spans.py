"""Spans of tasks whose child was killed: the node tells of them, for the child cannot any more.

A child makes the spans of a task when that has ended. As long as it runs, what they are is noted in
memory that the child shares with the node (see `control_block`). OpenTelemetry is loaded, and talks to
the collector, in a thread of its own, with the first task that dies. The node's loop waits for neither.
"""

from __future__ import annotations

import contextlib
import time
from queue import Full, Queue
from threading import Thread
from typing import NamedTuple

from manyhands_shared import tracing
from manyhands_shared.processes.thread_start import start
from manyhands_shared.protocol.status import Status
from manyhands_worker.core.model import Key
from manyhands_worker.ipc import control_block
from manyhands_worker.pool.child_handle import ChildHandle

#: Tasks that may wait to be told of; seconds that the last ones have at the node's end.
_MOST_WAITING = 1_000
_CLOSE_SECONDS = 2.0


class LostTask(NamedTuple):
    """A task that ended with its child. Times are nanoseconds of the wall clock."""

    noted: tracing.Noted
    ended: int
    key: Key
    task: int
    slot: int
    status: Status
    text: str


class LostSpans:
    """Sends the spans of tasks that took their child along. `node`: its name."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._waiting: Queue[LostTask | None] = Queue(_MOST_WAITING)
        self._thread: Thread | None = None

    def died(self, child: ChildHandle, text: str) -> None:
        """Tell of the task of a dead child, if it was traced. `text`: how it died."""
        noted = control_block.noted(child.words)
        task = child.task
        if noted is None or task is None or not tracing.endpoint():
            return
        status = Status.CANCELLED if child.asked else Status.CRASHED
        if child.expired[0] == child.claim:
            status = Status.CRASHED if child.overused[1] else Status.TIMED_OUT
        with contextlib.suppress(Full):
            self._waiting.put_nowait(
                LostTask(noted, time.time_ns(), *task, child.slot, status, text)
            )
        if self._thread is None:
            thread = Thread(target=self._send, name="manyhands-spans", daemon=True)
            if start(thread):
                self._thread = thread

    def close(self) -> None:
        """Send what waits, if that takes no longer than it may."""
        if self._thread is not None:
            with contextlib.suppress(Full):
                self._waiting.put_nowait(None)
            self._thread.join(_CLOSE_SECONDS)

    def _send(self) -> None:
        try:
            exporter = tracing.SpanExporter()
        except ImportError:
            # As for the tasks themselves: without the extra the client's span is all there is.
            return
        while (lost := self._waiting.get()) is not None:
            (job, attempt), outcome = lost.key, lost.status.name.lower()
            at = tracing.Running(job, lost.task, attempt, self._node, lost.slot, 0)
            exporter.send(lost.noted, at, lost.ended, outcome, lost.text)
        exporter.close()
