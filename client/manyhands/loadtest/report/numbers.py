"""Numbers and durations as reports write them."""

from __future__ import annotations


def rate(value: float | None) -> str:
    """Tasks a second: ``97,300``, ``4.02``."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


def time(seconds: float | None) -> str:
    """In the unit that reads best: ``840 µs``, ``12.3 ms``, ``2.01 s``."""
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if seconds < 1e3 else f"{seconds:,.0f} s"
    return f"{seconds * 1e6:.3g} µs"


def percent(share: float | None) -> str:
    """``99.3 %``."""
    return "-" if share is None else f"{share * 100:.3g} %"


def size(count: float) -> str:
    """Bytes: ``16.8 GB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def short(value: float) -> str:
    """A label of an axis: ``0``, ``250``, ``20k``, ``1.5M``."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"
