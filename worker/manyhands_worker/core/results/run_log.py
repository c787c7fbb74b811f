"""When tasks ran on which slot, for the broker's people: a sample, sent twice a second at most.

A child reports tasks together that are short, and long ones each by itself. Such a *run* is one entry
here. Where there are more than `MOST_RUNS` in the time, every second one is left out, then every fourth,
and so on. Long ones stay: there cannot be many of those. Up to `MOST_FAILED` stay
of those in which a task failed.

With them goes what runs just now, if it has run for a while. It is told again only where it has changed,
so a node whose tasks take hours is silent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.messages import MAX_RUNNING, Assign, Ran, RunGroup, Status
from manyhands_worker.core.events import Died, Finished, RunningTask
from manyhands_worker.core.model import Key

#: The least time between two messages.
INTERVAL = 0.5
#: Short runs in one message, and long ones.
MOST_RUNS = 32
MOST_LONG = 256
#: Runs in one message, beside these, in which a task did not end well.
MOST_FAILED = 64
LONG_SECONDS = 0.25
#: Arrivals that are remembered, the latest. Each is of a group of tasks.
MOST_ARRIVALS = 256
_WELL = (Status.OK, Status.HELD)
#: The highest time that is told, in seconds: some decades.
_MOST_SECONDS = 1e9


class Run(NamedTuple):
    """Tasks `first`, `first + 1`, … of a job, `count` of them, which a slot ran behind each other."""

    key: Key
    first: int
    tasks: int
    slot: int
    begun: float
    seconds: float
    cpu: float
    peak: int
    nbytes: int
    #: Bytes of their arguments; how many of them did not end well.
    given: int = 0
    failed: int = 0


class RunLog:
    """Runs that the broker was not told of."""

    def __init__(self) -> None:
        self._short: list[Run] = []
        self._long: list[Run] = []
        self._failed: list[Run] = []
        self._seen = 0
        self._stride = 1
        #: When what is here is to be sent; never if there is nothing.
        self.due = math.inf
        self._next = 0.0
        #: Groups of tasks that came: job and attempt, the first and the last task, when.
        self._arrivals: deque[tuple[Key, int, int, float]] = deque(maxlen=MOST_ARRIVALS)
        #: What runs, by its slot.
        self._running: dict[int, RunningTask] = {}

    def arrived(self, message: Assign, now: float) -> None:
        """Take note of when tasks came to this node."""
        for group in message.groups:
            indices = group.indices
            self._arrivals.append(((group.job, group.attempt), indices[0], indices[-1], now))

    def finished(
        self,
        key: Key,
        indices: Sequence[int],
        statuses: bytes,
        arguments: Sequence[Payload],
        event: Finished,
        now: float,
    ) -> None:
        """Take in what a child reports of tasks. `arguments` are theirs, and may be of more tasks."""
        if event.run is not None and indices:
            begun, cpu, peak = event.run
            first, count = indices[0], len(indices)
            failed = count - sum(map(statuses.count, _WELL))
            took, nbytes = event.seconds, event.nbytes
            if self._leaves_out_next() and not (failed or self._running or took >= LONG_SECONDS):
                self._seen += 1  # and that is all, for it is so with most of very many
                return
            run = Run(key, first, count, event.slot, begun, took, cpu, peak, nbytes, failed=failed)
            self.add(run, now, arguments[:count])

    def died(
        self, key: Key, index: int, arguments: Sequence[Payload], event: Died, now: float
    ) -> None:
        """Take in the task that a child has died of."""
        if event.ran is not None:
            begun, peak = event.ran
            took = max(0.0, now - begun)
            run = Run(key, index, 1, event.slot, begun, took, 0.0, peak, 0, failed=1)
            self.add(run, now, arguments)

    def follow(self, running: Sequence[RunningTask], now: float) -> None:
        """Take note of what runs now, in place of what was known."""
        self._running = {one.slot: one for one in running}
        self._hurry(now)

    def tell_again(self, now: float) -> None:
        """Have another broker told, or one that does not remember, of what runs."""
        if self._running:
            self._hurry(now)

    def _hurry(self, now: float) -> None:
        if self.due == math.inf:
            self.due = max(now, self._next)

    def add(self, run: Run, now: float, arguments: Sequence[Payload] = ()) -> None:
        """Take a run into the sample. Its arguments are weighed only if it is taken: that costs."""
        self._hurry(now)
        if self._running:
            running = self._running.get(run.slot)
            if running is not None and running.begun < run.begun + run.seconds:
                del self._running[run.slot]
        if run.seconds >= LONG_SECONDS and len(self._long) < MOST_LONG:
            self._long.append(_weighed(run, arguments))
            return
        if run.failed and len(self._failed) < MOST_FAILED:
            self._failed.append(_weighed(run, arguments))
            return
        left_out = self._leaves_out_next()
        self._seen += 1
        if left_out:
            return
        self._short.append(_weighed(run, arguments))
        if len(self._short) > MOST_RUNS:
            self._short = self._short[1::2]
            self._stride *= 2

    def _leaves_out_next(self) -> bool:
        """Whether the next short run is one of those that the sample goes without."""
        return (self._seen + 1) % self._stride != 0

    def take(self, now: float) -> Ran:
        """Take out everything, as a message. To be called when it is due."""
        self._next = now + INTERVAL
        self.due = math.inf
        runs = self._long + self._failed + self._short
        self._long, self._failed, self._short, self._seen, self._stride = [], [], [], 0, 1
        by_key: dict[Key, list[Run]] = {}
        for run in runs:
            by_key.setdefault(run.key, []).append(run)
        return Ran(
            [self._as_group(key, group, now) for key, group in by_key.items()],
            self._as_running(now),
        )

    def _as_running(self, now: float) -> list[RunGroup]:
        groups: dict[Key, list[Run]] = {}
        for one in islice(self._running.values(), MAX_RUNNING):
            took = now - one.begun
            run = Run(one.key, one.task, 1, one.slot, one.begun, took, 0.0, one.peak, 0)
            groups.setdefault(one.key, []).append(run)
        return [self._as_group(key, runs, now) for key, runs in groups.items()]

    def _as_group(self, key: Key, runs: list[Run], now: float) -> RunGroup:
        figures: list[int] = []
        for run in runs:
            times = map(_microseconds, (now - run.begun, run.seconds, run.cpu))
            figures += (run.first, run.tasks, run.slot, *times, run.peak, run.nbytes)
            figures += (self._waited(run), run.given, run.failed)
        return RunGroup(*key, figures)

    def _waited(self, run: Run) -> int:
        """One more than the microseconds for which a run waited on the node; 0 if that is not known."""
        for key, first, last, came in reversed(self._arrivals):
            if key == run.key and first <= run.first <= last and came <= run.begun:
                return 1 + _microseconds(run.begun - came)
        return 0


def _weighed(run: Run, arguments: Sequence[Payload]) -> Run:
    return run._replace(given=total(arguments))


def _microseconds(seconds: float) -> int:
    return round(min(max(0.0, seconds), _MOST_SECONDS) * 1e6)
