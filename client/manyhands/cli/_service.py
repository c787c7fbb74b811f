"""What `broker` and `worker` share: how much they log, and in what form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def log_options(function: Decorated) -> Decorated:
    """``--log-level`` and ``--log-format``."""
    levels = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
    for add in (
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="Lines for people, or a JSON object each with time, level, role and message.",
        ),
        click.option(
            "--log-level",
            type=levels,
            default="info",
            show_default=True,
            help="What is worth a line.",
        ),
    ):
        function = add(function)
    return function
