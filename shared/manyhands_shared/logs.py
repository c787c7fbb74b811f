"""The log lines of broker and node, on stderr. What others sent cannot forge one."""

from __future__ import annotations

import json
import logging
import time
from types import TracebackType

from manyhands_shared.text import LAYOUT, printable

#: What a record may say that its line is about.
_ABOUT = ("job", "node")
_ErrorInfo = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


def log_to_stderr(
    prefix: str, level: str, *, as_command: bool = False, as_json: bool = False
) -> None:
    """Send the log to stderr, a line each, which begins with `prefix`.

    As a command, each line begins with its time (UTC) and level. One at level critical says why the
    command ends, and begins with "error" as those of all commands. With `as_json` each line is a JSON
    object, and its `role` the last word of `prefix`.
    """
    handler = logging.StreamHandler()
    formats = _CommandFormat if as_command else _Format
    handler.setFormatter(_JsonFormat(prefix.rpartition(" ")[2]) if as_json else formats(prefix))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Format(logging.Formatter):
    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return f"{self._prefix}: {printable(record.message)}"

    def formatException(self, ei: _ErrorInfo) -> str:  # noqa: N802 - as above
        return printable(super().formatException(ei), keep=LAYOUT)


class _CommandFormat(_Format):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as above
        if record.levelno >= logging.CRITICAL:
            return f"error: {printable(record.message)}"
        at = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(record.created))
        return f"{at} {record.levelname.lower()} {super().formatMessage(record)}"


class _JsonFormat(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "role": self._role,
            "message": printable(record.getMessage()),
        }
        line |= {
            name: printable(str(value)) for name in _ABOUT if (value := getattr(record, name, ""))
        }
        if record.exc_info:
            line["traceback"] = printable(self.formatException(record.exc_info), keep=LAYOUT)
        return json.dumps(line, ensure_ascii=False)
