"""Durations as values of options."""

from __future__ import annotations

from typing import Any

import click

from manyhands_shared import duration


class Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Seconds, or a number with its unit: ``30s``, ``5m``, ``12h``, ``7d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds; a configuration file may give a number."""
        try:
            return duration.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()
