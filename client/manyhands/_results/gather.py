"""Results of many futures, in the shape that the futures are in."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from manyhands_shared.clock import monotonic


def gather(futures: Any, timeout: float | None, *, return_exceptions: bool) -> Any:
    """See `Executor.gather`."""
    deadline = None if timeout is None else monotonic() + timeout
    # Results that stay with their nodes are all asked for before the first one is waited for.
    _replace(futures, Future.done)

    def result(future: Future[Any]) -> Any:
        left = None if deadline is None else max(0.0, deadline - monotonic())
        if not return_exceptions:
            return future.result(left)
        try:
            error = future.exception(left)
        except CancelledError as cancelled:
            return cancelled
        return future.result() if error is None else error

    return _replace(futures, result)


def _replace(value: Any, by: Callable[[Future[Any]], Any]) -> Any:
    """Return `value` with what `by` returns for each future in it."""
    if isinstance(value, Future):
        return by(value)
    if type(value) in (list, tuple, set, frozenset):
        return type(value)([_replace(item, by) for item in value])
    if type(value) is dict:
        return {key: _replace(item, by) for key, item in value.items()}
    return value
