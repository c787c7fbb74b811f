"""A future of asyncio for one task, which other tasks may have as an argument."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Awaitable(asyncio.Future[T]):
    """Follows the future of a task from when the program first asks for the result.

    Until then the result may stay with its node, as an input of other tasks.

    Args:
        remote: the future of the task.
        loop: the event loop of those that await it.
    """

    def __init__(self, remote: Future[T], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._remote = remote
        self._follows = False

    def __reduce__(self) -> Any:
        """Stand for the result, in the arguments of a task; raises what the task's future raises."""
        return self._remote.__reduce__()

    def add_done_callback(
        self, fn: Callable[[Self], object], /, *, context: Context | None = None
    ) -> None:
        """Call `fn` when it has ended. ``await`` comes this way, too."""
        self._follow()
        super().add_done_callback(fn, context=context)

    def done(self) -> bool:
        """Whether the task has ended, or was cancelled."""
        self._follow()
        return super().done()

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop the task on its node."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._remote.cancel()
        return cancelled

    def _follow(self) -> None:
        if not self._follows:
            self._follows = True
            self._remote.add_done_callback(self._on_end)

    def _on_end(self, _: object) -> None:
        """Handle the end of the task, on any thread."""
        # A loop that is closed has none left that awaits it.
        with contextlib.suppress(RuntimeError):
            self.get_loop().call_soon_threadsafe(self._take)

    def _take(self) -> None:
        if super().done():
            return
        if self._remote.cancelled():
            super().cancel()
        elif (error := self._remote.exception()) is not None:
            self.set_exception(_awaited(error))
        else:
            self.set_result(self._remote.result())


def _awaited(error: BaseException) -> BaseException:
    """Return what awaiting raises: `StopIteration` would end the coroutine that awaits it."""
    if not isinstance(error, StopIteration):
        return error
    made = RuntimeError(f"the task raised {error!r}")
    made.__cause__ = error
    return made
