"""What the journal has of a job: what its tasks have printed."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core.queries.job_lookup import unknown
from manyhands_broker.core.state.scheduler_state import SchedulerState


def printed(
    state: SchedulerState, wanted: str, limit: int, *, after: int | None, task: int | None
) -> list[dict[str, Any]]:
    """Return the last `limit` texts that a job's tasks, or one `task`, printed, if they fit an answer.

    Behind position `after` it is the first of them.

    Raises:
        LookupError: the job is not known.
    """
    if wanted not in state.jobs and wanted not in state.finished_jobs:
        raise LookupError(unknown(wanted))
    found = state.store.output(wanted, limit, after=after, task=task)
    size, count = 0, 0
    for one in found if after is not None else reversed(found):
        if size >= state.limits.page_bytes:
            break
        size += len(one.text.encode())
        count += 1
    return [
        {"position": one.position, "index": one.task, "attempt": one.attempt, "text": one.text}
        for one in (found[:count] if after is not None else found[len(found) - count :])
    ]
