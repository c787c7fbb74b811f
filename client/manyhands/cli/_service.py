"""What `broker` and `worker` share: how much they log."""

from __future__ import annotations

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
