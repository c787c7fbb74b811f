"""What `broker` and `worker` share: their log lines on stderr."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def log_level(function: Decorated) -> Decorated:
    """``--log-level``."""
    levels = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
    return click.option(
        "--log-level", type=levels, default="info", show_default=True, help="What is worth a line."
    )(function)


def log_to_stderr(role: str, level: str) -> None:
    """Send the log to stderr: errors as ``error: …``, like every other error of the command."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Format(f"manyhands {role}: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Format(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if record.levelno >= logging.ERROR and record.exc_info is None:
            return f"error: {record.getMessage()}"
        return super().format(record)
