"""Sizes as values of options."""

from __future__ import annotations

import re
from typing import Any

import click

_FORM = re.compile(r"(\d+)([kKmMgG]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Bytes, or a number with its unit: ``64k``, ``1M``, ``2G``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes; a configuration file may give a number."""
        match = _FORM.fullmatch(str(value))
        if match is None or not int(match[1]):
            self.fail(f"{value!r} is no size, as in 64k or 1M", param, ctx)
        return int(match[1]) * _UNITS[match[2].lower()]


SIZE = Size()
