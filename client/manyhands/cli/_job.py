"""A job from submission to outcomes, as `run`, `map`, `submit` and `results` share it."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from manyhands.cli import _output
from manyhands.cli._errors import EndedBySignal, TimedOut
from manyhands.cli._lines import Call
from manyhands.cli._programs import ending
from manyhands_shared.errors import ConfigError, RemoteError, ResultError
from manyhands_shared.protocol.exceptions import name_of

#: What ends a command as Ctrl-C does: `kill`, `timeout` and service managers; a terminal that is closed.
_ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def time_limit(
    seconds: float | None,
    message: str = "not done after {:g} s, so the job was cancelled; see --timeout",
) -> Iterator[None]:
    """Raise `TimedOut` in here after `seconds`, whatever is going on; never with `None`."""
    if seconds is None:
        yield
        return

    def expired(_number: int, _frame: FrameType | None) -> None:
        raise TimedOut(message.format(seconds))

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `EndedBySignal` in here for SIGTERM and SIGHUP, so that nothing is left that runs on.

    A signal that is ignored stays ignored: `nohup` wants that.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise EndedBySignal(number)

    default = (one for one in _ENDS if signal.getsignal(one) is signal.SIG_DFL)
    before = {number: signal.signal(number, end) for number in default}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def entry(value: Any, *, allow_nan: bool = False) -> dict[str, Any]:
    """What a task came to, for JSON: ``result`` or ``error``.

    An error has the node's traceback, if there is one. Of a program it has the exit code, the outputs
    and the rest, as a result has. A result that JSON has no words for is an error too, with its
    ``repr`` beside that. `allow_nan`: see `_output.json_entry`.
    """
    if isinstance(value, BaseException):
        error = {"type": _type_name(value), "message": _text(value)}
        traceback = traceback_of(value)
        error |= {"traceback": traceback} if traceback else {}
        return {"error": {**error, **ending.told_of_failure(value)}}
    value = ending.in_text(value)
    found = _output.json_entry(value, allow_nan=allow_nan)
    if "repr" not in found:
        return found
    if not allow_nan and "result" in _output.json_entry(value, allow_nan=True):
        problem = (
            "the task succeeded, but its result has NaN or an infinity, and JSON has no words for "
            "these: return None for them, or say --allow-nan"
        )
    else:
        problem = (
            f"the task succeeded, but JSON has no words for its result, of type "
            f"{type(value).__qualname__}: return numbers, text, lists and dicts of them"
        )
    return {**entry(ResultError(problem)), **found}


def in_short(error: dict[str, Any]) -> str:
    """An ``error`` of `entry` in one bounded line."""
    return _output.in_short(f"{error['type']}: {error['message']}")


def describe(error: BaseException) -> str:
    """An exception in one line."""
    return f"{_type_name(error)}: {_text(error)}"


def traceback_of(error: BaseException) -> str:
    """The traceback on the node, if there is one."""
    from manyhands_shared.standard_errors import traceback_text  # noqa: PLC0415 - 8 ms

    return traceback_text(error)


def bound(
    function: Callable[..., Any], *, by_name: bool, safe: bool
) -> tuple[Callable[..., Any], Callable[[Call], tuple[Any, ...]]]:
    """What to submit for calls of a function, and what gives a call's arguments for that.

    Without `by_name` no call has arguments by name. A safe job can have none.
    """
    if by_name and not safe:
        return _with_keywords(function), lambda call: call

    def positional(call: Call) -> tuple[Any, ...]:
        if call[1]:
            raise ConfigError("--safe takes no arguments by name; give them in order")
        return call[0]

    return function, positional


def _with_keywords(function: Callable[..., Any]) -> Callable[..., Any]:
    # A function within a function travels by value: nodes need nothing of this module.
    @functools.wraps(function, updated=())
    def call(*given: Any) -> Any:
        *before, positional, keywords = (
            given  # before: results of the jobs that this one comes after
        )
        return function(*before, *positional, **keywords)

    return call


def _type_name(error: BaseException) -> str:
    if isinstance(error, RemoteError) and error.type_name:
        return error.type_name
    return name_of(type(error))


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 - a user's class
        return f"<str raised {type(second).__name__}>"
    # A stand-in names the original class in its text too, which stands beside it already.
    prefix = f"{error.type_name}: " if isinstance(error, RemoteError) else ""
    return text.removeprefix(prefix)
