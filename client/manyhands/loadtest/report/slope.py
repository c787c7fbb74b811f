"""The rate of events as the slope of a line through them.

Equal tasks on equal slots end in waves. A count within a window knows whole waves only: of twenty, one
more or less is five percent. The line through all ends of the window does not care where it begins.
"""

from __future__ import annotations


class Slope:
    """Takes events in bulk, and knows their rate by least squares."""

    def __init__(self) -> None:
        self._count = 0
        self._zero: float | None = None
        self._t = self._tt = self._c = self._ct = 0.0

    def add(self, at: float, count: int) -> None:
        """Add `count` events at a time, in seconds; times do not fall."""
        if self._zero is None:
            self._zero = at  # sums of squares of small numbers stay exact
        t = at - self._zero
        ordinals = count * (self._count + (count + 1) / 2)
        self._count += count
        self._t += count * t
        self._tt += count * t * t
        self._c += ordinals
        self._ct += ordinals * t

    @property
    def rate(self) -> float:
        """Events a second; 0 if they are too few to say."""
        spread = self._count * self._tt - self._t * self._t
        if self._count < 2 or spread <= 0:
            return 0.0
        return (self._count * self._ct - self._t * self._c) / spread
