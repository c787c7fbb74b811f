"""Figures over time in a bounded number of buckets, whose width doubles when there are too many."""

from __future__ import annotations

#: Buckets at most; half as many are left when the width doubles.
MOST_BUCKETS = 240
#: Seconds of a bucket at first.
FIRST_WIDTH = 0.5

Row = tuple[float, ...]


class Timeline:
    """The last row of figures of each bucket."""

    __slots__ = ("_bucket", "rows", "width")

    def __init__(self, width: float = FIRST_WIDTH) -> None:
        self.width = width
        #: Each begins with its time.
        self.rows: list[Row] = []
        self._bucket = -1

    def add(self, now: float, *figures: float) -> None:
        """Take figures of this moment, in place of earlier ones of the same bucket."""
        bucket = int(now / self.width)
        row = (now, *figures)
        if self.rows and bucket == self._bucket:
            self.rows[-1] = row
            return
        self._bucket = bucket
        self.rows.append(row)
        if len(self.rows) > MOST_BUCKETS:
            # The first row stays: it is the begin.
            self.rows = [self.rows[0], *self.rows[2::2]]
            self.width *= 2
            self._bucket = int(now / self.width)

    def rate(self, column: int, within: float, now: float) -> float:
        """Return how much a rising figure rose in a second, over about the last `within` seconds.

        A figure that rises no more until `now` has a rate that falls.
        """
        if len(self.rows) < 2:
            return 0.0
        last = self.rows[-1]
        first = next(
            (row for row in reversed(self.rows[:-1]) if last[0] - row[0] >= within), self.rows[0]
        )
        # Where it still rises, the next row is not due before this.
        seconds = max(last[0], now - FIRST_WIDTH) - first[0]
        return max(0.0, (last[column] - first[column]) / seconds) if seconds > 0 else 0.0
