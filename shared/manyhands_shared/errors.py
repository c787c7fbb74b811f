"""What can go wrong, as users see it.

Every class here says in one line what happened and what to do next. Commands turn them into exit
codes (`exit_code`), never into tracebacks.
"""

from __future__ import annotations

from enum import IntEnum
from importlib import import_module
from typing import Any

#: Those that are also errors of the standard library's pools. They load when first asked for.
_STANDARD = frozenset(
    {"InitializerFailed", "RemoteTraceback", "ResultNotLoaded", "TaskCrashed", "TaskTimeout"}
)


class ExitCode(IntEnum):
    """Exit codes of the `manyhands` command."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_AUTHORISED = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


class ManyhandsError(Exception):
    """Base of everything manyhands raises on its own account."""

    exit_code = ExitCode.JOB_FAILED


class ConfigError(ManyhandsError):
    """An option, environment variable or file holds something that cannot be used."""

    exit_code = ExitCode.USAGE


class BrokerUnreachable(ManyhandsError):
    """No broker answers at the address."""

    exit_code = ExitCode.UNREACHABLE


class NotAuthorised(ManyhandsError):
    """The broker refuses the key, or wants one and got none."""

    exit_code = ExitCode.NOT_AUTHORISED


#: Codes of a refusal that is about the peer's key: it must not be what it says, or was revoked.
KEY_CODES = frozenset({"role", "revoked", "user"})


class Refused(ManyhandsError):
    """The broker refuses this peer or this request, for the reason given (`code`, `reason`)."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.reason)


class SubmitError(ManyhandsError):
    """A function or an argument cannot be sent: it does not pickle, or it is too large."""


class SubmitRejected(ManyhandsError):
    """The broker did not take a task, for the reason given: its disk is full, an option is unknown."""


class SubmitQueueFull(ManyhandsError):
    """The client's bounded queue is full and the caller asked not to wait."""


class ClusterClosed(ManyhandsError, RuntimeError):
    """The cluster or session was closed while work was still in it."""


class ProtocolError(ManyhandsError):
    """Bytes that are not a message of this protocol, or not one that belongs here."""


class ProcessNotStarted(ManyhandsError, OSError):
    """A process of a program could not be started, for the reason given; it can be tried again."""


class SharedStateLost(ManyhandsError, OSError):
    """What processes of a program share is gone, with the broker or the host that kept it."""


class TaskError(ManyhandsError):
    """A task failed in a way that is not an exception of the user's own."""


class TaskLost(TaskError):
    """The node that had the task is gone and the task must not be run again (`at_most_once`)."""


class TaskMemoryExceeded(TaskError, MemoryError):
    """The task had more memory than its `resources` say, and was killed for that."""


class EnvironmentFailed(TaskError):
    """A node could not install what the task requires; the text has the installer's last lines."""


class ProgramFailed(TaskError):
    """A program that ran as a task failed; `facts` has its exit code, signal, host and times.

    `stdout` and `stderr` are what it printed, if that does not go to files.
    """

    def __init__(
        self,
        message: str,
        facts: dict[str, Any] | None = None,
        stdout: str | bytes = "",
        stderr: str | bytes = "",
    ) -> None:
        super().__init__(message, facts or {}, stdout, stderr)
        self.facts = facts or {}
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self) -> str:
        return str(self.args[0])


class ResultError(TaskError):
    """The task finished, but its result cannot be pickled, is too large, or does not load here.

    `remote_args` holds the `repr` of what pickling has raised and that of the result, if it was that.
    """

    remote_args: tuple[str, ...] = ()


class ResultWithheld(ResultError):
    """The result was not loaded: loading it would run code of another key's owner here."""


class RemoteError(TaskError):
    """Stands in for an exception of a task that could not travel.

    `type_name` is the original class, `remote_args` the `repr` of its arguments. Where the original
    derives from a built-in exception, so does its stand-in: `except ValueError` still works.
    """

    type_name: str = ""
    remote_args: tuple[str, ...] = ()


def __getattr__(name: str) -> Any:
    if name not in _STANDARD:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module("manyhands_shared.standard_errors"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_STANDARD})
