"""Runs of tasks as nodes tell of them: a sample of all, the slowest, and how long they took."""

from __future__ import annotations

import heapq
import math
from typing import Any, NamedTuple

#: Runs that stay as a sample of a job.
MOST_SAMPLED = 512
#: Of these, the slowest are always there.
MOST_SLOW = 20
#: Runs in which a task did not end well, the first ones, that stay beside the sample.
MOST_FAILED = 100
#: Durations are counted by powers of two, from below 2^-20 s, a microsecond, to above 2^20 s.
_LOWEST, _BUCKETS = -20, 41


class Run(NamedTuple):
    """Tasks `first`, `first + 1`, … of a job, `tasks` of them, which a slot ran in a row.

    `seq` rises from run to run, in all jobs. Times in seconds, `begun` as the broker's clock has it.
    `peak` in KiB; `nbytes` of the results. `queued`: when the first of the tasks came to the broker.
    `sent`: when its node had it; `None`: not known any more. `given`: the bytes of the arguments.
    `failed`: how many of the tasks did not end well.
    """

    seq: int
    job: str
    node: str
    slot: int
    attempt: int
    first: int
    tasks: int
    begun: float
    seconds: float
    cpu: float
    peak: int
    nbytes: int
    queued: float | None = None
    sent: float | None = None
    given: int = 0
    failed: int = 0

    def told(self, epoch: float) -> dict[str, Any]:
        """Return it in plain values, `queued`, `sent` and `begun` in Unix seconds."""
        found = self._asdict()
        for name in ("queued", "sent", "begun"):
            if found[name] is not None:
                found[name] += epoch
        return found


class Runs:
    """What is kept of a job's runs."""

    __slots__ = (
        "_seen",
        "_slow",
        "_stride",
        "buckets",
        "cpu",
        "failed",
        "peak",
        "sampled",
        "tasks",
    )

    def __init__(self) -> None:
        self.sampled: list[Run] = []
        self._stride = 1
        self._seen = 0
        self._slow: list[tuple[float, int, Run]] = []
        self.failed: list[Run] = []
        #: Tasks by how long they took; in all; their CPU seconds; the most memory in KiB.
        self.buckets = [0] * _BUCKETS
        self.tasks = 0
        self.cpu = 0.0
        self.peak = 0

    def add(self, run: Run) -> None:
        """Take a run in."""
        self.tasks += run.tasks
        self.cpu += run.cpu
        self.peak = max(self.peak, run.peak)
        self.buckets[bucket_of(run.seconds / run.tasks)] += run.tasks
        self.add_special(run)
        self._seen += 1
        if self._seen % self._stride == 0:
            self.sampled.append(run)
            if len(self.sampled) > MOST_SAMPLED:
                self.sampled = self.sampled[1::2]
                self._stride *= 2

    def add_special(self, run: Run) -> None:
        """Take a run in among the slowest and the failed alone, if it is one of them."""
        if run.failed and len(self.failed) < MOST_FAILED:
            self.failed.append(run)
        each = run.seconds / run.tasks
        if len(self._slow) < MOST_SLOW:
            heapq.heappush(self._slow, (each, run.seq, run))
        elif each > self._slow[0][0]:
            heapq.heapreplace(self._slow, (each, run.seq, run))

    @property
    def bound(self) -> float:
        """How many seconds a task takes at most that is none of the slowest."""
        return self._slow[0][0] if len(self._slow) == MOST_SLOW else 0.0

    @property
    def slowest(self) -> list[Run]:
        """The slowest ones, the slowest first."""
        return [run for _, _, run in sorted(self._slow, reverse=True)]

    def of_failure(self, task: int, attempt: int, node: str) -> Run | None:
        """Return the run of an attempt that did not end well, if it is here."""
        for run in self.failed:
            if run.attempt == attempt and run.node == node and 0 <= task - run.first < run.tasks:
                return run
        return None

    def durations(self) -> list[tuple[float, int]]:
        """Return pairs of seconds and how many tasks took no longer; the empty ends are left out."""
        used = [place for place, count in enumerate(self.buckets) if count]
        if not used:
            return []
        return [
            (2.0 ** (place + _LOWEST), self.buckets[place])
            for place in range(used[0], used[-1] + 1)
        ]


def bucket_of(seconds: float) -> int:
    """Return the bucket of a duration: that of the next power of two."""
    if seconds <= 0:
        return 0
    return min(max(math.ceil(math.log2(seconds)) - _LOWEST, 0), _BUCKETS - 1)
