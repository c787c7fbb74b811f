"""Errors of ours that programs catch as those of the standard library.

`errors` has them too. It loads this module when a program asks for one: that takes 8 ms, and most
processes never see such an error.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from typing import Any, TypeVar

from manyhands_shared.errors import RemoteError, ResultError, TaskError

E = TypeVar("E", bound=Exception)

_HOME = "manyhands_shared.errors"

#: The `__cause__` of a task's exception: the traceback as it was printed on the node.
RemoteTraceback = _RemoteTraceback

_QUOTES = '\n"""\n', '"""'


class TaskCrashed(TaskError, BrokenProcessPool):
    """The process that ran the task died, as often as is allowed (`story`: one line an attempt).

    Only this task has failed. The executor is not broken: it goes on.
    """

    def __init__(self, message: str, story: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.story = story

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.story)


class TaskTimeout(TaskError, TimeoutError, multiprocessing.TimeoutError):
    """The task ran longer than its `timeout` and was stopped."""


class InitializerFailed(RemoteError, BrokenProcessPool):
    """The `initializer` of an executor or pool raised an exception. An executor is broken then."""


class ResultNotLoaded(ResultError, BrokenProcessPool):
    """The task finished, but its pickled result does not load."""


for _kind in (TaskCrashed, TaskTimeout, InitializerFailed, ResultNotLoaded):
    _kind.__module__ = _HOME


def remote_traceback(text: str) -> RemoteTraceback:
    """Return what stands for a traceback of the node, as printed there."""
    # It is declared as if it took the object of a traceback.
    traceback: Any = text.join(_QUOTES)
    return RemoteTraceback(traceback)


def traceback_text(error: BaseException) -> str:
    """Return the traceback of the node that `error` came with; empty if there is none."""
    cause = error.__cause__
    if not isinstance(cause, RemoteTraceback):
        return ""
    return str(cause).removeprefix(_QUOTES[0]).removesuffix(_QUOTES[1])


def alike(kind: type[E], message: str, error: BaseException) -> E:
    """Return a `kind` that is also of the class of `error`, for programs that catch that one.

    It is a plain `kind` where no class can be both.
    """
    if isinstance(error, kind) or not isinstance(error, Exception):
        return kind(message)
    methods = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        # Those of the class of `error` may want other arguments.
        "__init__": Exception.__init__,
        "__str__": Exception.__str__,
        "__reduce__": lambda _: (alike, (kind, message, error)),
    }
    try:
        made: E = type(kind.__name__, (kind, type(error)), methods)(message)
        made.__dict__.update(error.__dict__)
    except Exception:  # noqa: BLE001 - a class of the user's may refuse heirs in any way it likes
        return kind(message)
    return made
