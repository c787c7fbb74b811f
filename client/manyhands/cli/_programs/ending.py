"""How one program ended, whatever came back of it."""

from __future__ import annotations

import ast
import signal
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

from manyhands_shared.errors import ProgramFailed, RemoteError, TaskTimeout
from manyhands_shared.protocol.exceptions import name_of

#: The exit code in the log of a program whose own is not known.
_UNKNOWN = 255
#: As GNU parallel writes it of a program that it killed for its time.
_TIMED_OUT = -1
_NAME = name_of(ProgramFailed)


@dataclass(frozen=True, slots=True)
class Ending:
    """What is known of the end of one program."""

    code: int = 0
    signal: int = 0
    host: str = ":"
    slot: int = 0
    start: float = 0.0
    seconds: float = 0.0
    stdout: bytes = b""
    stderr: bytes = b""
    #: Why it counts as failed, in words; empty: it has not.
    failure: str = ""
    #: It was cancelled, and may not have run at all.
    cancelled: bool = False

    @property
    def received(self) -> int:
        """Bytes that have come back."""
        return len(self.stdout) + len(self.stderr)


def ending_of(value: Any) -> Ending:
    """From a task's result or exception."""
    if not isinstance(value, BaseException):
        return _from_facts(value, value.get("stdout", ""), value.get("stderr", ""))
    if isinstance(value, CancelledError):
        return Ending(cancelled=True, failure="cancelled")
    if isinstance(value, ProgramFailed):
        return _from_facts(value.facts, value.stdout, value.stderr, str(value))
    if isinstance(value, RemoteError) and value.type_name == _NAME:
        message, facts, stdout, stderr = map(_literal, value.remote_args)
        return _from_facts(facts, stdout, stderr, message)
    killed = signal.SIGKILL if isinstance(value, TaskTimeout) else 0
    code = _TIMED_OUT if killed else _UNKNOWN
    return Ending(code, killed, start=time.time(), failure=str(value) or type(value).__name__)


def _from_facts(
    facts: dict[str, Any], stdout: str | bytes, stderr: str | bytes, failure: str = ""
) -> Ending:
    return Ending(
        facts["exit"],
        facts["signal"],
        facts["host"],
        facts["slot"],
        facts["start"],
        facts["seconds"],
        _bytes(stdout),
        _bytes(stderr),
        failure,
    )


def _literal(text: str) -> Any:
    """What was shown by `repr`, or that text where it was cut."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _bytes(output: str | bytes) -> bytes:
    return output.encode("utf-8", "surrogateescape") if isinstance(output, str) else output
