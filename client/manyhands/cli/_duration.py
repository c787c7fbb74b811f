"""Durations as values of options."""

from __future__ import annotations

from typing import Any

import click

from manyhands import _durations as durations


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Seconds, or a number with its unit: ``30s``, ``5m``, ``12h``, ``7d``."""

    name = "duration"

    def __init__(self, *, above_zero: bool = False) -> None:
        self._above_zero = above_zero

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a configuration file may give a number."""
        try:
            seconds = durations.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if self._above_zero and not seconds:
            self.fail("it must be more than 0", param, ctx)
        return seconds


DURATION = Duration()
TIME_LIMIT = Duration(above_zero=True)
