"""Whatever goes wrong, as one line on stderr and an exit code; never a traceback of ours."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator

import click

from manyhands.cli import _output
from manyhands.cli._user_files import NO_ROOM
from manyhands.cli._verb import NoVerb
from manyhands_shared.errors import ExitCode, ManyhandsError

#: A shell's exit code for a process that a signal has ended: this and the signal's number.
_SHELL_SIGNAL = 128
#: Packages that only some roles need, and the extra that brings each.
_EXTRAS = {
    "apsw": "broker",
    "click": "command",
    "pydantic": "command",
    "rich": "command",
    "prometheus_client": "broker",
    "starlette": "broker",
    "uvicorn": "broker",
    "hdrh": "loadtest",
    "numpy": "worker",
    "psutil": "worker",
    "textual": "top",
}


class JobFailed(Exception):
    """A task of the job failed; its own error was shown before, where there is one to show."""


class ReaderGone(Exception):
    """Nothing reads what the command prints any more. click would end without a word."""

    def __init__(self) -> None:
        super().__init__(f"cannot write the output: {os.strerror(errno.EPIPE)}")


class TimedOut(Exception):
    """The time that `--timeout` allows is over."""


class EndedBySignal(KeyboardInterrupt):
    """A signal asked this process to end; it does so as by Ctrl-C.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def reader_gone() -> Iterator[None]:
    """Raise `ReaderGone` where a pipe has no reader."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None


def report(error: BaseException) -> int:
    """Print one line for `error`; returns the exit code that goes with it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.JOB_FAILED
    # `click` puts its own in the place of an interrupt.
    ended = error.__cause__ if isinstance(error, click.exceptions.Abort) else error
    if isinstance(ended, EndedBySignal):
        _output.note(f"ended by {signal.Signals(ended.number).name}")
        return _SHELL_SIGNAL + ended.number
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        _output.note("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, NoVerb):
        _output.note(error.message)
        return ExitCode.USAGE
    text, code = _explain(error)
    _output.error(text)
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    """The one line and the exit code."""
    if isinstance(error, click.ClickException):
        return _usage(error), ExitCode.USAGE
    if isinstance(error, TimedOut):
        return str(error), ExitCode.TIMED_OUT
    if isinstance(error, ManyhandsError):
        return str(error), error.exit_code
    if isinstance(error, ReaderGone):
        # What is left in the stream goes nowhere, or the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())
    if isinstance(error, JobFailed | ReaderGone):
        return str(error), ExitCode.JOB_FAILED
    missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    package = missing.partition(".")[0]
    if package in _EXTRAS:
        remedy = f"pip install 'manyhands[{_EXTRAS[package]}]'"
        return f"{package} is not installed, which this needs; run: {remedy}", ExitCode.USAGE
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        place = error.filename or "the output"
        return f"cannot write {place}: {error.strerror}", ExitCode.JOB_FAILED
    if os.environ.get("MANYHANDS_DEBUG"):
        traceback.print_exception(error)
    text = traceback.format_exception_only(error)[-1].strip()
    hint = "set MANYHANDS_DEBUG=1 for the details and report it"
    return f"manyhands failed inside: {text}; {hint}", ExitCode.JOB_FAILED


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see: {context.command_path} --help" if context else message
