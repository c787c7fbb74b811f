"""Results do not wait for a long task behind them.

A pool child sends results together, so those of quick tasks wait for the next one. How long that takes
is not known. While a batch of several tasks runs, a thread looks every 20 ms whether one has become
long. Then it hands over what the tasks before it have brought.

The thread is not one of `threading`: a task's own census of threads does not count it. It ends before
the process forks, as Python warns of a fork beside other threads. It ends as well when no batch has come
for a second.
"""

from __future__ import annotations

import _thread
import contextlib
import time

from manyhands_worker.child.results.result_batch import ResultBatch
from manyhands_worker.ipc.control_block import CLAIM, DONE, STARTED

#: A task that runs for longer keeps no results. The node takes back what waits behind it, as soon.
_LONG_NS = 20_000_000
_LOOK_SECONDS = 0.020
#: Looks without a batch until the thread ends.
_IDLE_LOOKS = 50


class EarlySender:
    """The thread, while there is one.

    Args:
        results: what it hands over.
        control: the child's control block.
    """

    def __init__(self, results: ResultBatch, control: memoryview) -> None:
        self._results = results
        self._control = control
        #: Whether a batch runs that it is to look at.
        self._is_needed = False
        #: Whether there is a thread that has not been told to end. Changes under the results' lock.
        self._runs = False
        #: Released to tell the thread to end.
        self._end = _thread.allocate_lock()
        self._end.acquire()
        #: Held for the thread until it has ended.
        self._lives = _thread.allocate_lock()

    def begin(self) -> None:
        """Look at the tasks of the batch that begins now."""
        self._is_needed = True
        with self._results.lock:
            if self._runs:
                return
            self._runs = True
        self._lives.acquire()
        try:
            _thread.start_new_thread(self._look, ())
        except RuntimeError:
            # The system allows no thread. Then results wait for a long task, and are not lost.
            self._runs = False
            self._lives.release()

    def finish(self) -> None:
        """The batch is over."""
        self._is_needed = False

    def before_fork(self) -> None:
        """End the thread, for this process is about to fork; hand over what it would have looked at."""
        with self._results.lock:
            if self._results:
                self._send()
            if self._runs:
                self._runs = False
                self._end.release()
        with self._lives:
            return

    def _look(self) -> None:
        idle = 0
        while not self._end.acquire(timeout=_LOOK_SECONDS):
            idle = 0 if self._is_needed else idle + 1
            with self._results.lock:
                if idle >= _IDLE_LOOKS and self._runs:
                    self._runs = False
                    break
                if self._results and self._is_long():
                    self._send()
        self._lives.release()

    def _is_long(self) -> bool:
        control = self._control
        is_running = control[CLAIM] != control[DONE]
        return is_running and time.monotonic_ns() - control[STARTED] >= _LONG_NS

    def _send(self) -> None:
        # What is wrong with the pipe, the loop of the tasks finds as well.
        with contextlib.suppress(OSError):
            self._results.send_early()
