"""Which job has its turn to be sent: a task goes to the broker behind its inputs.

Else tasks that wait there for these could fill the window, and keep them out. The oldest of all unsent
tasks can always go, for its inputs are older.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from manyhands._session.job import SessionJob

#: Inputs of the tasks of one group, beyond those of its first task.
GROUP_INPUTS = 16_384


def first_free(ready: Iterable[SessionJob], jobs: Mapping[str, SessionJob]) -> SessionJob | None:
    """Return the first job in line whose next task can go."""
    # Not `next`: its generator costs more than the look, and a lone call looks five times.
    for job in ready:
        if not job.inputs or count_free(job, jobs, 1):
            return job
    return None


def count_free(job: SessionJob, jobs: Mapping[str, SessionJob], most: int) -> int:
    """Return how many of a job's next tasks can go in one group, as far as inputs are concerned."""
    if not job.runs or not job.inputs:
        return most
    count = 0
    first, stop = job.runs[0]
    for place, index in enumerate(range(first, min(stop, first + most))):
        inputs = job.inputs.get(index, ())
        count += len(inputs)
        if (count > GROUP_INPUTS and place) or any(
            # Those of the job itself are before it.
            of_job != job.id and of_job in jobs and jobs[of_job].is_unsent(of_index)
            for of_job, of_index in inputs
        ):
            return place
    return most
