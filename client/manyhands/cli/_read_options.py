"""The flags that say how `map` and `submit` read lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from manyhands.cli._lines import Reading

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def read_options(function: Decorated) -> Decorated:
    """``--star``, ``--lines``, ``--arg``."""
    for add in reversed(
        (
            click.option(
                "--star",
                is_flag=True,
                help="Spread an array over positional, an object over keyword arguments.",
            ),
            click.option(
                "--lines", is_flag=True, help="Each line is a text as it is, and no JSON."
            ),
            click.option(
                "--arg",
                "rest",
                multiple=True,
                metavar="VALUE",
                help="An argument of every call, behind the item; a Python literal or text; repeatable.",
            ),
        )
    ):
        function = add(function)
    return function


def reading(options: dict[str, Any]) -> Reading:
    """How lines become calls; takes these flags out of a verb's options."""
    from manyhands.cli._target import literal  # noqa: PLC0415 - so that --help is quick

    star, text, rest = (options.pop(name) for name in ("star", "lines", "rest"))
    if star and text:
        raise click.UsageError(
            "--star spreads JSON, and --lines takes text; give one of them",
            click.get_current_context(),
        )
    return Reading(star, text, tuple(map(literal, rest)))
