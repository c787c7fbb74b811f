"""What breaks inside the broker for one job ends that job, and no other.

The scheduler calls `Breakdowns.of` where work for a job has raised: it could not be read back, or the
scheduler has a bug. The job is *terminating* then: its tasks end as failed, with the cause, and so do
tasks that are added later. This happens behind the event, for the caller may still be at work on the
job. A store that cannot be trusted any more (`StoreFailed`) is no job's failure: it is raised again,
and the broker ends.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.store import StoreFailed
from manyhands_shared.errors import ManyhandsError
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.status import Status

#: Characters of a cause that are told.
_CAUSE_CHARS = 300
#: Places whose failures are told apart; of each, the first is logged.
_PLACES = 256


class Breakdowns:
    """What has broken in this event, and for which jobs.

    Args:
        counters: where it is counted.
        say: tells the operator.
    """

    def __init__(self, counters: Counter[str], say: Callable[[int, str], None]) -> None:
        self._counters = counters
        self._say = say
        self._said: set[str] = set()
        #: Jobs to end, each with its cause.
        self.jobs: dict[Job, str] = {}

    def of(self, error: Exception, job: Job | None, doing: str = "") -> None:
        """Count and report an error; it ends `job`, unless that is `None`. `doing` says what went wrong.

        Raises:
            StoreFailed: the error is one.
        """
        if isinstance(error, StoreFailed):
            raise error
        self._counters["internal_errors"] += 1
        cause = describe(error)
        whose = f"; {doing}" if doing else ""
        if job is not None:
            whose += f"; job {job.id} ends as failed"
        place = cause if isinstance(error, ManyhandsError) else _place(error)
        if place not in self._said and len(self._said) < _PLACES:
            self._said.add(place)
            what = "" if isinstance(error, ManyhandsError) else f"a bug in manyhands, at {place}: "
            self._say(logging.ERROR, f"{what}{cause}{whose}")
        if job is not None:
            self.jobs.setdefault(job, cause)


def terminate(job: Job, cause: str) -> None:
    """Have all tasks of a job that have not ended, and those to come, end as failed."""
    text = f"the broker could not go on with job {job.id}: {cause}"
    job.ending = Status.LOST, Failure("manyhands.TaskLost", text).encode()
    job.terminating = True


def describe(error: Exception) -> str:
    """Return an exception in a line."""
    text = " ".join(str(error).split())[:_CAUSE_CHARS]
    if isinstance(error, ManyhandsError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: Exception) -> str:
    """Return where it was raised: file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
