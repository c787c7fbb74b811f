"""What another broker must be told of a job: how old it is, and what the last one said of it.

An attached job lives in the session alone. A broker that is started again learns from the session
whether the job is paused, how often tasks were tried, and when it was submitted. Its deadline counts
from there.
"""

from __future__ import annotations

from collections.abc import Iterable

from manyhands_shared.protocol.messages import JobStanding, Standing, TaskStanding

#: Tasks in one message.
_MESSAGE_TASKS = 4_096


class JobHistory:
    """What brokers have said of one job, which the first of them was sent at `began`."""

    __slots__ = ("began", "paused", "tasks")

    def __init__(self, began: float) -> None:
        self.began = began
        self.paused = False
        #: What was told of tasks that have not ended.
        self.tasks: dict[int, TaskStanding] = {}

    def ended(self, indices: Iterable[int]) -> None:
        """These tasks have ended."""
        for index in indices:
            self.tasks.pop(index, None)

    def messages(self, job_id: str, now: float) -> list[Standing]:
        """All of it, for a broker that knows nothing."""
        tasks = list(self.tasks.values())
        first = JobStanding(job_id, max(0.0, now - self.began), self.paused, 0)
        return [
            Standing([] if start else [first], tasks[start : start + _MESSAGE_TASKS])
            for start in range(0, max(1, len(tasks)), _MESSAGE_TASKS)
        ]
