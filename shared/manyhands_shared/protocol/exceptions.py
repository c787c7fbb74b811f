"""From an exception to a failure that loads everywhere, and back."""

from __future__ import annotations

import builtins
import traceback
from dataclasses import replace
from typing import Any

from manyhands_shared.errors import (
    EnvironmentFailed,
    RemoteError,
    ResultError,
    SubmitRejected,
    TaskError,
    TaskLost,
    TaskMemoryExceeded,
)
from manyhands_shared.payloads import pickled as serial
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.processes.signal_handlers import is_from_handler
from manyhands_shared.protocol.failure import (
    ENVIRONMENT_FAILED,
    INITIALIZER_FAILED,
    MEMORY_EXCEEDED,
    RESULT_NOT_LOADED,
    SUBMIT_REJECTED,
    Failure,
)
from manyhands_shared.protocol.status import Status

#: What is made of these failures has their text, and nothing else.
_PLAIN: dict[str, type[TaskError | SubmitRejected]] = {
    ENVIRONMENT_FAILED: EnvironmentFailed,
    MEMORY_EXCEEDED: TaskMemoryExceeded,
    SUBMIT_REJECTED: SubmitRejected,
}
#: A failure's texts are cut to this many characters each: an exception may carry a whole data set.
MAX_TEXT = 64 * 1024
#: An exception beyond this many bytes arrives as a stand-in.
MAX_PICKLE = 64 << 20
#: Modules that users do not import: what they import instead.
_PUBLIC = {
    "manyhands_shared.errors": "manyhands",
    "concurrent.futures._base": "concurrent.futures",
}


def of_exception(error: BaseException, *, skip_frames: int = 0, pickled: bool = True) -> Failure:
    """Describe `error`, with its pickle only if that has been proven to load in this process.

    `skip_frames` leaves out that many of the outermost traceback frames (our own). Methods of the
    exception that raise (`__str__`, `__repr__`, `__reduce__`) are survived. Without `pickled` it is
    described alone.
    """
    kind = type(error)
    trace = error.__traceback__
    for _ in range(skip_frames):
        trace = trace.tb_next if trace is not None else None
    return Failure(
        type=name_of(kind),
        message=_cut(_safe(str, error)),
        args=tuple(map(show, _arguments(error))),
        bases=tuple(
            base.__name__
            for base in kind.__mro__
            if base.__module__ == "builtins" and base is not object
        ),
        traceback=_cut(_format(error, trace)),
        pickle=_proven_pickle(error) if pickled else None,
    )


def show(value: object) -> str:
    """Return the `repr` of a value, whatever its class makes of that, cut to a bearable length."""
    return _cut(_safe(repr, value))


def name_of(kind: type) -> str:
    """Return the name by which users know a class of exceptions: where they import it from."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{_PUBLIC.get(kind.__module__, kind.__module__)}.{kind.__qualname__}"


def to_exception(
    status: int, payload: Payload, *, pickled: bool = True, exits: bool = False
) -> BaseException:
    """The exception that a future raises for a task that ended with `status` (never `Status.OK`).

    Without `pickled` its pickle is not loaded: a stand-in tells what it was. So it does of what is no
    `Exception`, as `SystemExit` and `KeyboardInterrupt`, but with `exits`.
    """
    from manyhands_shared.standard_errors import remote_traceback  # noqa: PLC0415 - 8 ms

    failure = Failure.decode(payload)
    if not pickled:
        failure = replace(failure, pickle=None)
    error = _rebuild(status, failure, exits=exits)
    if failure.traceback:
        error.__cause__ = remote_traceback(failure.traceback)
    if failure.note:
        error.add_note(failure.note)
    return error


def _rebuild(status: int, failure: Failure, *, exits: bool) -> BaseException:
    from manyhands_shared import standard_errors as errors  # noqa: PLC0415 - 8 ms

    if status == Status.CRASHED:
        return errors.TaskCrashed(failure.message, failure.story)
    if status == Status.TIMED_OUT:
        return errors.TaskTimeout(failure.message)
    if status == Status.LOST:
        return TaskLost(failure.message)
    if status == Status.UNSENDABLE:
        return _unsendable(failure, exits=exits)
    if failure.type in _PLAIN:
        return _PLAIN[failure.type](failure.message)
    if failure.type == INITIALIZER_FAILED:
        return _stand_in(failure, errors.InitializerFailed)
    return _original(failure, exits=exits) or _stand_in(failure)


def _original(failure: Failure, *, exits: bool) -> BaseException | None:
    """The exception itself, if it has come and loads here."""
    if failure.pickle is None:
        return None
    try:
        error = serial.loads(failure.pickle)
    except BaseException as problem:  # user code runs here; the stand-in tells the story
        if is_from_handler(problem):
            raise
        return None
    wanted = BaseException if exits else Exception
    return error if isinstance(error, wanted) else None


def _unsendable(failure: Failure, *, exits: bool) -> BaseException:
    """A `ResultError` that also is what pickling the result has raised."""
    from manyhands_shared import standard_errors as errors  # noqa: PLC0415 - 8 ms

    if failure.type == RESULT_NOT_LOADED:
        return errors.ResultNotLoaded(failure.message)
    error = _original(failure, exits=exits)
    if error is not None and not isinstance(error, Exception):
        return error
    made = ResultError(failure.message)
    if isinstance(error, Exception):
        made = errors.alike(ResultError, failure.message, error)
    made.remote_args = failure.args
    return made


def _stand_in(failure: Failure, main: type[RemoteError] = RemoteError) -> RemoteError:
    """A `main` that also is the built-in exception which the original derived from."""
    error: RemoteError | None = None
    text = failure.message if main is not RemoteError else f"{failure.type}: {failure.message}"
    for name in failure.bases:
        base = getattr(builtins, name, None)
        if not (isinstance(base, type) and issubclass(base, Exception)) or base is Exception:
            continue
        try:
            kind = type(failure.type.rpartition(".")[2], (main, base), {"__module__": "remote"})
            error = kind(text)
            break
        except Exception:  # noqa: BLE001 - a base with a constructor of its own (UnicodeError…)
            continue
    if error is None:
        error = main(text)
    error.type_name = failure.type
    error.remote_args = failure.args
    return error


def _proven_pickle(error: BaseException) -> bytes | None:
    try:
        data = serial.dumps_whole(error)
        if len(data) > MAX_PICKLE:
            return None
        again = serial.loads(data)
    except BaseException:  # noqa: BLE001 - user code runs here, and this is the place to survive it
        return None
    return data if type(again) is type(error) or isinstance(again, Exception) else None


def _format(error: BaseException, trace: Any) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # noqa: BLE001 - a __str__ that raises
        return f"{name_of(type(error))} (its traceback cannot be printed)\n"


def _arguments(error: BaseException) -> tuple[Any, ...]:
    try:
        return tuple(error.args[:16])
    except BaseException:  # noqa: BLE001 - a class may make `args` a property, and that may raise
        return ()


def _safe(function: Any, value: object) -> str:
    try:
        return str(function(value))
    except BaseException as error:  # noqa: BLE001 - as above
        return f"<{function.__name__} raised {type(error).__name__}>"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
