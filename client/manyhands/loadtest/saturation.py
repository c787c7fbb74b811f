"""Ramp to saturation: which load comes next, given what came of the last ones. All pure."""

from __future__ import annotations

from collections.abc import Sequence

#: Shares of what the cluster does under full pressure, from idle to a little more than it can take.
_LADDER = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1)
#: If the cluster keeps up even with the last, full pressure was not all: the load rises further.
_RISE, _RISES = 1.2, 6
#: Steps at the end that halve the gap between what was kept up with and what was not.
_HALVINGS = 2
#: An offered load counts as kept up with if this share of it was done in the same time.
KEPT_UP = 0.97

#: Offered tasks a second, and those done.
Point = tuple[float, float]


def next_rate(capacity: float, points: Sequence[Point]) -> float | None:
    """The next load to offer, in tasks a second; `None` when all is known.

    Args:
        capacity: what the cluster did under full pressure.
        points: what was offered since, in order, and what was done of it.
    """
    if capacity <= 0:
        return None
    if len(points) < len(_LADDER):
        return capacity * _LADDER[len(points)]
    failed = [not _kept_up(*point) for point in points]
    if not any(failed):
        more = len(points) - len(_LADDER)
        return points[-1][0] * _RISE if more < _RISES else None
    climbed = max(len(_LADDER), failed.index(True) + 1)
    low = sustained(points)
    if not low or len(points) >= climbed + _HALVINGS:
        return None
    return (low + min(offered for offered, done in points if not _kept_up(offered, done))) / 2


def sustained(points: Sequence[Point]) -> float:
    """The highest offered load that was kept up with, below any that was not; 0 if there is none."""
    best = 0.0
    for offered, done in sorted(points):
        if not _kept_up(offered, done):
            break
        best = offered
    return best


def _kept_up(offered: float, done: float) -> bool:
    return done >= KEPT_UP * offered
