"""What the journal has of a job: what its tasks have printed, and what a retry needs."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core.queries.job_lookup import unknown
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_broker.core.store import Damaged
from manyhands_shared.payloads.payload import nbytes


def failed_tasks(state: SchedulerState, wanted: str, start: int) -> dict[str, Any]:
    """Return what a retry needs: payloads of the tasks that failed, from task `start` on.

    `next` is where to go on asking, or `None` after the last.

    Raises:
        LookupError: the job is not known or not over, or a payload is lost.
    """
    if wanted not in state.finished_jobs:
        where = "is not over yet" if wanted in state.jobs else "is not known here"
        raise LookupError(f"job {wanted} {where}; only a durable job that is over can be retried")
    position, failed = 0, []
    while page := state.store.results(wanted, position, state.limits.page_bytes):
        for stored in page:
            group = stored.group
            failed += [i for i, status in zip(group.indices, group.statuses, strict=True) if status]
        position = page[-1].position
    indices: list[int] = []
    bodies: list[Any] = []
    size = 0
    for index in sorted(index for index in failed if index >= start):
        if size >= state.limits.page_bytes:
            return {"indices": indices, "bodies": bodies, "next": index}
        for body in state.store.bodies(wanted, index, index + 1):
            if isinstance(body, Damaged):
                text = f"task {index} cannot be retried: {body.reason}"
                raise LookupError(text)  # noqa: TRY004 - what is lost, not a wrong type
            indices.append(index)
            bodies.append([bytes(b) for b in body] if isinstance(body, tuple) else bytes(body))
            size += nbytes(body)
    return {"indices": indices, "bodies": bodies, "next": None}


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
