"""Keeping Ctrl-C out of a few lines that must not end half-way."""

from __future__ import annotations

# What `signal` wraps, without its enumerations, which take ten times as long.
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_MAIN = threading.main_thread().ident
_SIGINT = int(_signal.SIGINT)


class Uninterrupted:
    """What SIGINT would do in a ``with`` block is done at its end instead.

    Only the main thread is ever interrupted; in another one this does nothing.
    """

    __slots__ = ("_before", "_came")

    def __enter__(self) -> None:
        self._came: list[FrameType | None] = []
        self._before: Callable[..., Any] | None = None
        if threading.get_ident() == _MAIN:
            before = _signal.getsignal(_SIGINT)
            if callable(before):
                _signal.signal(_SIGINT, self._note)
                self._before = before

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _signal.signal(_SIGINT, self._before)
            if self._came:
                self._before(_SIGINT, self._came[0])

    def _note(self, _: int, frame: FrameType | None) -> None:
        self._came.append(frame)
