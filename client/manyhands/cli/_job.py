"""A job from submission to outcomes, as `run`, `map`, `submit` and `results` share it."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from manyhands import Client, Job
from manyhands._submit import arguments
from manyhands.cli import _connect, _output
from manyhands.cli._errors import TimedOut
from manyhands.cli._job_options import split
from manyhands.cli._lines import Call
from manyhands_shared.errors import ConfigError, ManyhandsError, RemoteError, RemoteTraceback
from manyhands_shared.payloads import safe as plain
from manyhands_shared.payloads.payload import nbytes


@contextlib.contextmanager
def submitted(
    function: Callable[..., Any],
    calls: list[Call],
    *,
    name: str,
    slots: int | None,
    refused: dict[int, BaseException] | None = None,
    **options: Any,
) -> Iterator[Job]:
    """One job with a task for each call, on the named broker or on a cluster made for it.

    Calls that cannot be sent are left out and noted in `refused`, by their place. Without it one of
    them is the end of all.

    A job that has not ended when the context is left is cancelled: the session closes then, and the
    broker cancels its jobs.
    """
    chosen, connection = split(options)
    with _connect.client(embed=True, slots=slots, **connection) as client:
        if refused is not None:
            refused |= _unsendable(client, calls, safe=bool(chosen.get("safe")))
            calls = [call for place, call in enumerate(calls) if place not in refused]
        yield submit(client, function, calls, name=name, **chosen)


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


def entry(value: Any) -> dict[str, Any]:
    """What a task came to, for JSON: ``result``, or ``repr``, or ``error``."""
    if not isinstance(value, BaseException):
        return _output.json_entry(value)
    return {"error": {"type": _type_name(value), "message": _text(value)}}


def describe(error: BaseException) -> str:
    """An exception in one line."""
    return f"{_type_name(error)}: {_text(error)}"


def traceback_of(error: BaseException) -> str:
    """The traceback on the node, if there is one."""
    return error.__cause__.text if isinstance(error.__cause__, RemoteTraceback) else ""


def submit(client: Client, function: Callable[..., Any], calls: list[Call], **options: Any) -> Job:
    """One job with a task for each call; `options` are those of `Client.submit_job`."""
    if any(keywords for _, keywords in calls):
        if options.get("safe"):
            raise ConfigError("--safe takes no arguments by name; give them in order")
        return client.submit_job(_with_keywords(function), calls, **options)
    return client.submit_job(function, [positional for positional, _ in calls], **options)


def _unsendable(client: Client, calls: list[Call], *, safe: bool) -> dict[int, BaseException]:
    """The calls whose arguments cannot be sent, by their place, and why."""
    found: dict[int, BaseException] = {}
    for place, (positional, keywords) in enumerate(calls):
        try:
            given = (*positional, *([keywords] if keywords else ()))
            payload = plain.pack_arguments(given, {}) if safe else arguments.pack(given, {})
            client._io.queue.check_size(nbytes(payload))
        except ManyhandsError as error:
            found[place] = error
    return found


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
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001 - a user's class
        return f"<str raised {type(second).__name__}>"
    # A stand-in names the original class in its text too, which stands beside it already.
    prefix = f"{error.type_name}: " if isinstance(error, RemoteError) else ""
    return text.removeprefix(prefix)
