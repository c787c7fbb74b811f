"""Tasks that are submitted as their input comes, with results taken meanwhile.

One thread reads the input and submits, and waits while `WINDOW` tasks are out or much of what has come
back is not taken. The caller takes results. So the memory does not grow with the input.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from manyhands import Client
from manyhands.options import job_options
from manyhands_shared.errors import SubmitError
from manyhands_shared.processes.thread_start import must_start

#: Tasks that are submitted and whose results are not done with. More than any cluster has slots.
WINDOW = 16_384
#: Room is given out again in this many parts of a window. Meanwhile the rest of it is out.
_GROUPS = 32

Item = TypeVar("Item")


class Stream(Generic[Item]):
    """One job of this session that grows with its input.

    Args:
        client: the session.
        function: of each task.
        items: what is read; may wait, and is read in another thread.
        arguments: the positional arguments of an item's task.
        stop: ends `items`, also while they are waited for.
        window: see `WINDOW`.
        options: of the job, as of `Client.submit_job`.
    """

    def __init__(
        self,
        client: Client,
        function: Callable[..., Any],
        items: Iterator[Item],
        arguments: Callable[[Item], tuple[Any, ...]],
        *,
        stop: Callable[[], None] = lambda: None,
        window: int = WINDOW,
        name: str = "",
        **options: Any,
    ) -> None:
        self.job, self._add = client._open_job(function, job_options(name, **options))
        self._items = items
        self._arguments = arguments
        self._stop_items = stop
        #: Items whose results have not come, by the number of their task.
        self.waiting: dict[int, Item] = {}
        #: Items that cannot be sent, and why.
        self.refused: deque[tuple[Item, BaseException]] = deque()
        self._room = threading.Semaphore(window)
        # Room that has come back and is not given out yet: the thread is not woken for each.
        self._given_back = 0
        self._group = max(1, window // _GROUPS)
        self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._feed, name="manyhands-input", daemon=True)

    @property
    def submitted(self) -> int:
        """How many tasks there are so far."""
        return self.job.tasks

    def __iter__(self) -> Iterator[tuple[Item, Any]]:
        """Each item with its value or exception, as tasks end; call `done` when it is done with.

        Raises:
            Exception: what ended the reading of the input, behind all results.
        """
        must_start(self._thread)
        try:
            for index, value in self.job:
                while self.refused:
                    yield self.refused.popleft()
                yield self.waiting.pop(index), value
        finally:
            self.stop()
            self._thread.join()
        while self.refused:
            yield self.refused.popleft()
        if self._error is not None:
            raise self._error

    def done(self) -> None:
        """Let one more be submitted, with those of a group."""
        self._given_back += 1
        if self._given_back >= self._group:
            self._room.release(self._given_back)
            self._given_back = 0

    def stop(self) -> None:
        """Submit no more. What has been submitted goes on."""
        if not self._stopped:
            self._stopped = True
            self._stop_items()
            self._room.release()

    def _feed(self) -> None:
        try:
            for item in self._items:
                self._room.acquire()
                if self._stopped:
                    break
                given = self._arguments(item)
                self.waiting[self.job.tasks] = item
                try:
                    self._add(given)
                except SubmitError as error:
                    del self.waiting[self.job.tasks]
                    self.refused.append((item, error))
        except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
            self._error = error
        finally:
            self.job.close()
