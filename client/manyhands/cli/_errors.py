"""Whatever goes wrong, as one line on stderr and an exit code; never a traceback of ours."""

from __future__ import annotations

import os
import sys
import traceback

import click

from manyhands.cli import _output
from manyhands_shared.errors import ExitCode, ManyhandsError

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
}


class JobFailed(Exception):
    """A task of the job failed; its own error was shown before, where there is one to show."""


class TimedOut(Exception):
    """The time that `--timeout` allows is over."""


def report(error: BaseException) -> int:
    """Print one line for `error`; returns the exit code that goes with it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.JOB_FAILED
    if isinstance(error, click.exceptions.Abort | KeyboardInterrupt):
        _output.note("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, click.ClickException):
        _line(_usage(error))
        return ExitCode.USAGE
    if isinstance(error, TimedOut):
        _line(str(error))
        return ExitCode.TIMED_OUT
    if isinstance(error, ManyhandsError):
        _line(str(error))
        return error.exit_code
    if isinstance(error, JobFailed):
        _line(str(error))
        return ExitCode.JOB_FAILED
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        extra = _EXTRAS[error.name]
        _line(
            f"{error.name} is not installed, which this needs; run: pip install 'manyhands[{extra}]'"
        )
        return ExitCode.USAGE
    if os.environ.get("MANYHANDS_DEBUG"):
        traceback.print_exception(error)
    text = traceback.format_exception_only(error)[-1].strip()
    _line(f"manyhands failed inside: {text}; set MANYHANDS_DEBUG=1 for the details and report it")
    return ExitCode.JOB_FAILED


def _usage(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see: {context.command_path} --help" if context else message


def _line(text: str) -> None:
    """One line, whatever the text has in it."""
    _output.note(f"{_output.style('error:', 'red')} {' '.join(text.split())}")
    sys.stderr.flush()
