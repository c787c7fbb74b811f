"""Durations as people write them: ``30s``, ``5m``, ``12h``, ``7d``, or plain seconds."""

from __future__ import annotations

import math

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse(text: str) -> float:
    """Seconds.

    Raises:
        ValueError: it is no duration.
    """
    plain = text.strip().lower()
    unit = _UNITS.get(plain[-1:], 0)
    try:
        seconds = float(plain[:-1]) * unit if unit else float(plain)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{text!r} is no duration; write 30s, 5m, 12h, 7d, or a number of seconds")
    return seconds


def show(seconds: float) -> str:
    """In the largest unit that it is a whole number of."""
    for unit in "dhm":
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"
