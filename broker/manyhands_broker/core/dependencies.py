"""Jobs that come after others: they wait, and are given the results of those or end with them.

Only durable jobs can come after others, and only durable ones can be waited for.
"""

from __future__ import annotations

import math

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Given, Status


class Dependencies:
    """Which jobs wait for which, and what becomes of them."""

    def __init__(self, transitions: Transitions) -> None:
        self._transitions = transitions
        self._state = transitions.state

    def follow(self, job: Job) -> None:
        """Have a new job wait for those it comes after."""
        state = self._state
        job.awaits = set(job.options.after)
        for parent in job.options.after:
            if parent in state.jobs:
                state.followers.setdefault(parent, []).append(job)
            else:
                finished = state.finished_jobs.get(parent)
                self._followed(job, parent, str(finished["state"]) if finished else "forgotten")

    def tell(self, most: int) -> int:
        """Tell at most `most` jobs that one before them is over; return how many were told."""
        told = 0
        while self._state.over and told < most:
            parent, state, followers = self._state.over[0]
            if not followers:
                self._state.over.popleft()
                continue
            follower = followers.popleft()
            told += 1
            try:
                self._followed(follower, parent, state)
            except Exception as error:  # noqa: BLE001 - reported; it ends this one
                self._state.breakdowns.of(error, follower)
        return told

    def _followed(self, job: Job, parent: str, state: str) -> None:
        """Let `job` go on, or end it: the job `parent`, which it comes after, is over."""
        if job.finished or parent not in job.awaits:
            return
        if state != "done":
            self._end(job, f"job {parent}, which this one comes after, ended as {state}")
            return
        if len(job.awaits) > 1:
            job.awaits.discard(parent)
        else:
            # In a later drain: what the parents returned last is in the store only after this one.
            later = math.nextafter(self._state.now, math.inf)
            self._state.timers.at(later, lambda _now: self._start(job), job)

    def _start(self, job: Job) -> None:
        job.awaits.clear()
        for parent in job.options.after:
            position = 0
            while page := self._state.store.results(
                parent, position, self._state.limits.page_bytes
            ):
                job.given += [stored.group for stored in page]
                position = page[-1].position
            if any(any(group.statuses) for group in job.given):
                self._end(job, f"results of job {parent}, which this one comes after, are lost")
                return
        if wrong := wire.refusal(Given(job.id, job.given)):
            job.given = []
            self._end(job, f"the results that this job is to be given are too many: {wrong}")
            return
        self._state.ready.add(job)

    def _end(self, job: Job, text: str) -> None:
        """Cancel a job for want of what it comes after."""
        job.ending = Status.CANCELLED, Failure("manyhands.TaskError", text).encode()
        job.terminating = True
        for piece in job.every_piece(TaskState.QUEUED):
            self._transitions.cancel(piece, None)
