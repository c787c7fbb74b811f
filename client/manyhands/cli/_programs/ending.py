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
_FACTS = frozenset({"exit", "signal", "host", "slot", "start", "seconds"})
_OUTPUTS = ("stdout", "stderr")


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
    failed = _failed(value)
    if failed is not None:
        return failed
    killed = signal.SIGKILL if isinstance(value, TaskTimeout) else 0
    code = _TIMED_OUT if killed else _UNKNOWN
    return Ending(code, killed, start=time.time(), failure=str(value) or type(value).__name__)


def told(ending: Ending) -> dict[str, Any]:
    """Return where, when and how a program ended, and its outputs, for JSON."""
    facts = {name: getattr(ending, name) for name in ("host", "slot", "start", "seconds", "signal")}
    return {
        **facts,
        **{name: _text(getattr(ending, name)) for name in _OUTPUTS},
        "exit": ending.code,
    }


def told_of_failure(value: BaseException) -> dict[str, Any]:
    """Return `told` of a program that failed; nothing of any other exception."""
    failed = _failed(value)
    return {} if failed is None else told(failed)


def in_text(value: object) -> object:
    """Return the result of a program with its outputs as texts; any other value as it is.

    Bytes that are no UTF-8 become lone surrogates, as those of file names do.
    """
    if not isinstance(value, dict) or not value.keys() >= _FACTS:
        return value
    outputs = {name: value[name] for name in _OUTPUTS if isinstance(value.get(name), bytes)}
    return {**value, **{name: _text(output) for name, output in outputs.items()}}


def _failed(value: BaseException) -> Ending | None:
    """The end of a program that failed; `None` if this is the exception of another task."""
    if isinstance(value, ProgramFailed):
        known: list[Any] = [str(value), value.facts, value.stdout, value.stderr]
    elif isinstance(value, RemoteError) and value.type_name == _NAME:
        known = list(map(_literal, value.remote_args))
    else:
        return None
    # A user's function may raise one too, without facts.
    if len(known) != 4 or not isinstance(known[1], dict) or not known[1].keys() >= _FACTS:
        return None
    message, facts, stdout, stderr = known
    return _from_facts(facts, stdout, stderr, message)


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


def _text(output: bytes) -> str:
    return output.decode("utf-8", "surrogateescape")


def _bytes(output: str | bytes) -> bytes:
    return output.encode("utf-8", "surrogateescape") if isinstance(output, str) else output
