"""From late heartbeats to suspicion: the phi accrual failure detector.

Phi is the negative decimal logarithm of a probability: that a heartbeat as late as this one is still to
come. It follows from the mean and variance of the intervals so far (Hayashibara et al., 2004). Phi 1
is one false alarm in ten, phi 8 one in 10^8. Suspicion never takes work from a node; it only asks for a
probe of its link.
"""

from __future__ import annotations

import math
from typing import Any

from manyhands_broker.core import Calmed, Suspected
from manyhands_broker.heartbeats.table import Row


def phi(elapsed: float, mean: float, variance: float) -> float:
    """Phi of a heartbeat that is `elapsed` seconds after the last, for normal intervals.

    The normal distribution's tail is approximated by a logistic function (Bowling et al., 2009; its
    error is below 0.0002).
    """
    # Timers and networks are never exact: a floor keeps perfect regularity from seeing ghosts.
    deviation = max(math.sqrt(variance), mean / 4, 0.05)
    y = (elapsed - mean) / deviation
    exponent = y * (1.5976 + 0.070566 * y * y)
    if exponent > 700.0:
        return 300.0
    tail = math.exp(-exponent) if exponent > 0 else 1.0
    return -math.log10(tail / (1.0 + math.exp(-exponent))) if exponent > 0 else 0.0


class Liveness:
    """Reads the last-seen table and says whose standing has changed."""

    def __init__(self, table: Any, threshold: float, stuck_after: float) -> None:
        """`stuck_after`: seconds without a turn of a node's main loop that make it suspect."""
        self._table = table
        self._threshold = threshold
        self._stuck_after = stuck_after
        self._expected: dict[int, bytes] = {}
        self._suspects: set[int] = set()

    def expect(self, number: int, boot_id: bytes) -> None:
        """Look at this row from now on."""
        self._expected[number] = boot_id
        self._suspects.discard(number)

    def forget(self, number: int) -> None:
        """Look at it no more."""
        self._expected.pop(number, None)
        self._suspects.discard(number)

    def check(self, now: float) -> list[Suspected | Calmed]:
        """What has changed; a suspect is named again with each check."""
        changes: list[Suspected | Calmed] = []
        for number, boot_id in self._expected.items():
            row: Row = self._table[number]
            value = phi(now - row.arrived, row.mean, row.variance)
            if row.beats and now - row.turned > self._stuck_after:
                value = max(value, self._threshold)
            if value >= self._threshold:
                self._suspects.add(number)
                changes.append(Suspected(number, boot_id, value))
            elif number in self._suspects:
                self._suspects.discard(number)
                changes.append(Calmed(number, boot_id))
        return changes
