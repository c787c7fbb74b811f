"""When the tasks of an open loop are meant to start, whatever the cluster does.

An open loop does not wait for answers: its tasks have their starts from here, and latency counts from
these. If the cluster, or the client itself, falls behind, tasks that the client could not even send in
time have waited too. A loop that waits for an answer before it asks again leaves just those out. It
looks best when things are worst; that is called coordinated omission.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

KINDS = ("poisson", "uniform")


def offsets(kind: str, rate: float, seed: int) -> Iterator[float]:
    """Seconds from the beginning, rising, without end.

    Args:
        kind: ``poisson`` for tasks that know nothing of each other, ``uniform`` for an even beat.
        rate: tasks a second, on average.
        seed: of the Poisson process; several of them with different seeds make one whose rate is
            the sum of theirs. For a uniform beat it chooses when the first task comes.
    """
    chance = random.Random(seed)
    if kind == "uniform":
        first = chance.random()
        number = 0
        while True:
            yield (first + number) / rate
            number += 1
    at = 0.0
    while True:
        at += chance.expovariate(rate)
        yield at
