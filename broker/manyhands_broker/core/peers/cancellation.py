"""Ending tasks that are not wanted any more."""

from __future__ import annotations

from manyhands_broker.core.fault_isolation import terminate
from manyhands_broker.core.model.chunk import Piece
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.task_state import TaskState
from manyhands_broker.core.records import JobClosed, JobMarked
from manyhands_broker.core.state import twins
from manyhands_broker.core.transitions import Transitions
from manyhands_shared.protocol.messages import Cancel, Span


class Cancellation:
    """What waits ends at once; what is on a node ends when the node says so."""

    def __init__(self, transitions: Transitions) -> None:
        self._transitions = transitions
        self._state = transitions.state

    def tasks(self, job: Job, indices: list[int]) -> None:
        """Cancel these tasks, those of them that have not ended."""
        for chunk, low, high in job.pieces(indices):
            # As they were: what is moved here is behind us.
            states = bytes(chunk.states[low:high])
            at = 0
            while at < len(states):
                state = states[at]
                stop = len(states) - len(states[at:].lstrip(states[at : at + 1]))
                piece = Piece(chunk, low + at, low + stop)
                if state == TaskState.QUEUED:
                    self._transitions.cancel(piece, None)
                elif state == TaskState.ASSIGNED:
                    self._assigned(piece)
                at = stop

    def whole(self, job: Job) -> None:
        """Cancel what is there; a durable job is over with that, also after a restart."""
        if job.options.durable:
            self._state.record(JobMarked(job.id, "cancelled"))
            if not job.closed:
                self._state.record(JobClosed(job.id, job.total))
                job.close()
        self.remaining(job)
        if job.finished:
            self._transitions.retire(job)

    def broken(self) -> None:
        """End the jobs for which something has broken, with the cause."""
        state = self._state
        jobs, state.breakdowns.jobs = state.breakdowns.jobs, {}
        for job, cause in jobs.items():
            if state.jobs.get(job.id) is not job:
                continue
            state.counters["jobs_broken"] += 1
            terminate(job, cause)
            try:
                self.remaining(job)
            except Exception as error:  # noqa: BLE001 - reported; there is nothing left to try
                state.breakdowns.of(error, None)

    def remaining(self, job: Job) -> None:
        """Cancel every task that has not ended."""
        for piece in job.every_piece(TaskState.QUEUED):
            self._transitions.cancel(piece, None)
        job.ready.clear()
        for piece in job.every_piece(TaskState.ASSIGNED):
            self._assigned(piece)

    def _assigned(self, piece: Piece) -> None:
        job = piece.chunk.job
        if job.speculation is not None:
            twins.stop(self._state, piece)
        spans: dict[tuple[bytes, int], list[int]] = {}
        for offset, index in enumerate(piece.indices, piece.lo):
            node = piece.chunk.holders[offset]
            if node is not None and index not in job.cancelling:
                job.cancelling.add(index)
                spans.setdefault((node.peer, piece.chunk.attempts[offset]), []).append(index)
        for (peer, attempt), indices in spans.items():
            self._state.send(peer, Cancel([Span(job.id, attempt, indices)]))
