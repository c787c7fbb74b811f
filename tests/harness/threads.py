"""Threads of a test: each of them ends, and what one raises the test raises."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

_SECONDS = 100.0


class Worker:
    """A thread that runs a function; `result` waits for it."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()

    def _main(self) -> None:
        try:
            self._value = self._run()
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            self._error = error

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def result(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive(), "the thread did not end"
        if self._error is not None:
            raise self._error
        return self._value


@contextlib.contextmanager
def no_thread_left() -> Iterator[None]:
    """Have the system give this process no thread: there is no room for the stack of one."""
    before = threading.stack_size(1 << 47)
    try:
        yield
    finally:
        threading.stack_size(before)


def starve(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Have the system give no thread for those of this name; return the names of those it refused."""
    refused: list[str] = []
    start = threading.Thread.start

    def starved(thread: threading.Thread) -> None:
        if thread.name != name:
            start(thread)
            return
        refused.append(name)
        with no_thread_left():
            start(thread)

    monkeypatch.setattr(threading.Thread, "start", starved)
    return refused
