"""How a job went: its history as far as there is any, here or in the journal."""

from __future__ import annotations

from typing import Any

from manyhands_broker.core.state.scheduler_state import SchedulerState


def of_job(state: SchedulerState, job_id: str, *, private: bool) -> dict[str, Any]:
    """Return the history of a job that is known; empty if nothing is kept of it.

    Of one that is not over, `progress` has the present rate and the seconds that are left.

    Args:
        state: the scheduler's.
        job_id: the job.
        private: whether the asker may read what its tasks raised.
    """
    history = state.histories.get(job_id)
    if history is not None:
        found = history.told(state.epoch, private=private)
        job = state.jobs.get(job_id)
        if job is not None:
            found["progress"] = history.progress(job, state.now)
        return found
    if job_id not in state.finished_jobs:
        return {}
    remembered = state.store.history(job_id) or {}
    return remembered if private or not remembered else _without_texts(remembered)


def _without_texts(history: dict[str, Any]) -> dict[str, Any]:
    failures = history["failures"]
    first = [{**one, "error": ""} for one in failures["first"]]
    return {**history, "failures": {**failures, "first": first, "groups": []}}
