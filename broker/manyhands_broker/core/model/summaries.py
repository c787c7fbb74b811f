"""Jobs in plain values, as people see them and as the journal keeps them."""

from __future__ import annotations

from typing import Any

import msgpack

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.records import StoredJob
from manyhands_shared.protocol.status import Status

#: Bytes of an option that is told where many jobs are.
_OPTION_BYTES = 512


def describe_job(job: Job, function_name: str, owner: str, epoch: float) -> dict[str, Any]:
    """Return a job in plain values. `submitted` is in Unix seconds, `seconds` the run time of its tasks.

    `copies`: tasks that run twice now; `speculated`: those that ever did.
    """
    counts, speculation = job.counts, job.speculation
    return {
        "id": job.id,
        "name": job.options.name,
        "function": function_name,
        "state": _job_state(job),
        "open": not job.closed,
        "tasks": job.total,
        "queued": counts[TaskState.QUEUED],
        "active": counts[TaskState.ASSIGNED],
        "done": counts[TaskState.DONE],
        "failed": counts[TaskState.FAILED],
        "cancelled": counts[TaskState.CANCELLED],
        "priority": job.options.priority,
        "durable": job.options.durable,
        "options": job.options.to_map(),
        "digest": job.function,
        "copies": speculation.copies if speculation is not None else 0,
        "speculated": speculation.given if speculation is not None else 0,
        "story": list(job.story),
        "seconds": job.seconds,
        "submitted": job.submitted + epoch,
        "session": job.session.name,
        "account": job.session.account,
        "owner": owner,
    }


def describe_damaged(stored: StoredJob, text: str, owner: str, ended: float) -> dict[str, Any]:
    """Return a job whose record in the journal cannot be used, as one that has failed.

    Args:
        stored: what the journal has of it.
        text: why it has failed.
        owner: what the account is called on which it ran.
        ended: the Unix time of now.
    """
    done = sum(status == Status.OK for status in stored.ended.values())
    cancelled = sum(status == Status.CANCELLED for status in stored.ended.values())
    return {
        "id": stored.id,
        "name": str(stored.options.get("name", "")),
        "function": "",
        "state": "failed",
        "open": False,
        "tasks": stored.total,
        "queued": 0,
        "active": 0,
        "done": done,
        "failed": stored.total - done - cancelled,
        "cancelled": cancelled,
        "priority": 0,
        "durable": True,
        "options": stored.options,
        "digest": stored.function,
        "copies": 0,
        "speculated": 0,
        "story": [text],
        "seconds": 0.0,
        "submitted": stored.submitted,
        "session": "",
        "account": stored.owner,
        "owner": owner,
        "ended": ended,
    }


def without_long(options: dict[str, Any]) -> dict[str, Any]:
    """Return a job's options but for those of very many characters."""
    return {
        name: value
        for name, value in options.items()
        if type(value) in (bool, int, float) or len(msgpack.packb(value)) <= _OPTION_BYTES
    }


def _job_state(job: Job) -> str:
    counts = job.counts
    if job.finished:
        return (
            "cancelled"
            if counts[TaskState.CANCELLED]
            else "failed"
            if counts[TaskState.FAILED]
            else "done"
        )
    if job.paused:
        return "paused"
    if job.waiting or job.awaits:
        return "waiting"
    if counts[TaskState.ASSIGNED]:
        return "running"
    return "queued" if counts[TaskState.QUEUED] else "open"
