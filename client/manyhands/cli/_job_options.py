"""The flags of a verb that submits a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def job_options(function: Decorated) -> Decorated:
    """``--name``, ``--priority`` and ``--timeout``."""
    function = click.option(
        "--timeout",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help="Cancel the job and give up after so long, with exit code 124.",
    )(function)
    function = click.option(
        "--priority",
        type=click.IntRange(-1_000, 1_000),
        default=0,
        show_default=True,
        help="Higher goes first, among all jobs of the broker.",
    )(function)
    return click.option("--name", default="", help="The job's name; else MODULE:FUNCTION.")(
        function
    )
