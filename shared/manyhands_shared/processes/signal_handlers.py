"""Telling an exception of a signal handler from one of the code that it came into.

A handler may raise anything anywhere: `TimeoutError`, of all things, is an `OSError`. Code that takes
errors for what they say asks here first, and lets a handler's through.
"""

from __future__ import annotations

# What `signal` wraps, without its enumerations, which take ten times as long.
import _signal  # type: ignore[import-not-found]
import threading
from collections.abc import Iterator
from types import CodeType
from typing import Any

_MAIN = threading.main_thread().ident


def is_from_handler(error: BaseException) -> bool:
    """Whether a signal handler of this process raised it, and not what was interrupted."""
    if threading.get_ident() != _MAIN:
        return False  # handlers run in the main thread alone
    if type(error) is KeyboardInterrupt:
        return True
    codes = set(_codes())
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _codes() -> Iterator[CodeType]:
    for number in range(1, int(_signal.NSIG)):
        handler: Any = _signal.getsignal(number)
        if callable(handler):
            handler = getattr(handler, "func", handler)  # of a partial
            for function in (handler, vars(type(handler)).get("__call__")):
                code = getattr(function, "__code__", None)
                if isinstance(code, CodeType):
                    yield code
