"""What is kept of one job."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core.history.arrivals import Arrivals
from manyhands_broker.core.history.failures import FailedRun, Failures
from manyhands_broker.core.history.runs import Runs
from manyhands_broker.core.history.timeline import Timeline
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.task_state import TaskState

#: The columns of a job's timeline.
COLUMNS = ("at", "queued", "active", "done", "failed", "cancelled")
#: Seconds over which a job's present rate is taken.
RATE_SECONDS = 10.0
_DONE, _FAILED, _CANCELLED = 3, 4, 5


class JobHistory:
    """Counts over time, runs, failures."""

    __slots__ = ("arrivals", "failures", "runs", "timeline")

    def __init__(self, submitted: float) -> None:
        self.arrivals = Arrivals(submitted)
        self.timeline = Timeline()
        self.timeline.add(submitted, 0, 0, 0, 0, 0)
        self.runs = Runs()
        self.failures = Failures()

    def sample(self, job: Job, now: float) -> None:
        """Take the job's counts of this moment."""
        counts = job.counts
        self.timeline.add(
            now,
            counts[TaskState.QUEUED],
            counts[TaskState.ASSIGNED],
            counts[TaskState.DONE],
            counts[TaskState.FAILED],
            counts[TaskState.CANCELLED],
        )

    def progress(self, job: Job, now: float) -> dict[str, Any]:
        """Return the present rate in tasks a second, and the seconds left; `None` if unknown."""
        if job.paused and not job.assigned:
            return {"rate": 0.0, "eta": None}
        rate = sum(
            self.timeline.rate(column, RATE_SECONDS, now) for column in (_DONE, _FAILED, _CANCELLED)
        )
        left = job.queued + job.assigned
        is_known = rate > 0 and left and not job.paused
        return {"rate": rate, "eta": left / rate if is_known else None}

    def told(self, epoch: float, *, private: bool) -> dict[str, Any]:
        """Return it in plain values, times in Unix seconds. `private`: texts of exceptions too."""
        runs, failures = self.runs, self.failures
        return {
            "columns": list(COLUMNS),
            "timeline": [[row[0] + epoch, *row[1:]] for row in self.timeline.rows],
            "bucket": self.timeline.width,
            "sampled": {"tasks": runs.tasks, "runs": len(runs.sampled)},
            "cpu": runs.cpu,
            "peak": runs.peak,
            "durations": [[upto, count] for upto, count in runs.durations()],
            "slowest": [run.told(epoch) for run in runs.slowest],
            "runs": [run.told(epoch) for run in runs.sampled],
            "failures": {
                "counts": dict(failures.counts),
                "first": [self._told(one, epoch, private=private) for one in failures.first],
                "groups": [
                    group.told(epoch)
                    for group in sorted(failures.groups.values(), key=lambda one: -one.count)
                ]
                if private
                else [],
                "others": failures.others,
            },
        }

    def _told(self, one: FailedRun, epoch: float, *, private: bool) -> dict[str, Any]:
        run = self.runs.of_failure(one.task, one.attempt, one.node)
        return {
            **one._asdict(),
            "at": one.at + epoch,
            "error": one.error if private else "",
            "run": None if run is None else run.told(epoch),
        }
