"""Find a job by its id, or say why there is none."""

from __future__ import annotations

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.state.scheduler_state import SchedulerState


def live_job(state: SchedulerState, wanted: str) -> Job:
    """Return a job that is not over.

    Raises:
        LookupError: the job is over, or is not known.
    """
    job = state.jobs.get(wanted)
    if job is None:
        over = wanted in state.finished_jobs or any(old["id"] == wanted for old in state.history)
        raise LookupError(f"job {wanted} is over" if over else unknown(wanted))
    return job


def unknown(job_id: str) -> str:
    """Return the sentence that says that there is no such job."""
    return f"no job {job_id!r} here; `manyhands jobs` lists them"
