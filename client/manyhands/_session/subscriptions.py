"""Durable jobs whose results are wanted here, each result once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from manyhands._session.effects import Deliver, Send
from manyhands._session.events import PauseResults, Subscribe, Unsubscribe
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Attach, Detach, Throttle
from manyhands_shared.protocol.status import Status

#: More tasks than any job has: a number above is no task's, and memory for it would be wasted.
_MAX_TASKS = 1 << 32
_LOST = Failure(
    "manyhands.TaskLost",
    "the broker has no such job: forgotten, or lost with a broker that had no journal",
).encode()


class Subscriptions:
    """The jobs, and which of their results have been seen (one byte a task)."""

    def __init__(self) -> None:
        #: Tasks submitted by this session, of all these jobs, whose results have not come.
        self.owed = 0
        #: Jobs of this session that have finished, until it takes them off.
        self.finished: list[str] = []
        self._seen: dict[str, bytearray] = {}
        self._owed: dict[str, int] = {}
        self._paused: set[str] = set()
        #: Jobs of this session, and whether they are closed.
        self._own: dict[str, bool] = {}

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._seen

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._seen))

    def add(self, job_id: str, *, own: bool = False) -> None:
        """Subscribe to a job; one of this session's `own` finishes with its last result."""
        self._seen[job_id] = bytearray()
        self._paused.discard(job_id)
        self._owed[job_id] = 0
        if own:
            self._own[job_id] = False

    def drop(self, job_id: str) -> None:
        """End a subscription."""
        del self._seen[job_id]
        self._paused.discard(job_id)
        self._own.pop(job_id, None)
        self.owed -= self._owed.pop(job_id)

    def order(self, event: Subscribe | Unsubscribe | PauseResults) -> Iterator[Send]:
        """Do what the user wants; yield what the broker is to be told of it."""
        match event:
            case Subscribe(job) if job not in self:
                self.add(job)
                yield Send(Attach(job))
            case Unsubscribe(job) if job in self:
                self.drop(job)
                yield Send(Detach(job))
            case PauseResults(job, on) if job in self:
                self.pause(job, on=on)
                yield Send(Throttle(job, on))

    def again(self, is_opened: Callable[[str], bool]) -> Iterator[Send]:
        """Subscribe anew, over another link, to the jobs that the broker can know."""
        for job_id in self:
            if is_opened(job_id):  # the others follow their first tasks
                yield Send(Attach(job_id))
                if self.is_paused(job_id):
                    yield Send(Throttle(job_id, hold=True))

    def lose(self, job_id: str) -> None:
        """End a subscription of whose job the broker has nothing."""
        if job_id in self._own:
            self.finished.append(job_id)
        self.drop(job_id)

    def close(self, job_id: str) -> None:
        """Take note that a job of this session gets no more tasks."""
        if job_id in self._own:
            self._own[job_id] = True
            self._settle(job_id)

    def pause(self, job_id: str, *, on: bool) -> None:
        """Leave results of a job with the broker, or no longer."""
        (self._paused.add if on else self._paused.discard)(job_id)

    def is_paused(self, job_id: str) -> bool:
        """Return whether its results stay with the broker."""
        return job_id in self._paused

    def owe(self, job_id: str, count: int) -> None:
        """Count tasks that were submitted here, if there is a subscription."""
        if job_id in self._owed:
            self._owed[job_id] += count
            self.owed += count

    def unseen(self, job_id: str, indices: Iterable[int]) -> list[int]:
        """Return those of these tasks that have not ended, as far as is known here."""
        seen = self._seen[job_id]
        return [index for index in indices if index >= len(seen) or not seen[index]]

    def take(
        self, job_id: str, indices: list[int], statuses: bytes, bodies: list[Payload]
    ) -> Deliver | None:
        """Return the results that are new; `None` if every one of them was seen before."""
        seen = self._seen[job_id]
        top = max(indices, default=-1)
        if top >= len(seen):
            seen.extend(bytes(min(top + 1, _MAX_TASKS) - len(seen)))
        fresh = []
        for place, index in enumerate(indices):
            if index < _MAX_TASKS and not seen[index]:
                seen[index] = 1
                fresh.append(place)
        if not fresh:
            return None
        paid = min(len(fresh), self._owed[job_id])
        self._owed[job_id] -= paid
        self.owed -= paid
        if len(fresh) < len(indices):
            indices = [indices[place] for place in fresh]
            statuses = bytes(statuses[place] for place in fresh)
            bodies = [bodies[place] for place in fresh]
        self._settle(job_id)
        return Deliver(job_id, indices, statuses, bodies)

    def _settle(self, job_id: str) -> None:
        if self._own.get(job_id) and not self._owed[job_id]:
            self.finished.append(job_id)
            self.drop(job_id)

    def validate(self) -> None:
        """Check every invariant; `AssertionError` names the one that does not hold."""
        assert self._seen.keys() == self._owed.keys(), "subscriptions"
        assert self._paused <= self._seen.keys(), "paused, and not subscribed to"
        assert self._own.keys() <= self._seen.keys(), "a job of this session's own that is gone"
        assert self.owed == sum(self._owed.values()), "owed tasks"
        assert all(owed >= 0 for owed in self._owed.values()), "owed less than nothing"
        assert all(self._owed[job] for job, closed in self._own.items() if closed), "has finished"
        assert not self.finished, "has finished, and the session does not know"


def lost_with_journal(job_id: str, indices: list[int]) -> Deliver:
    """Return the end of tasks that no journal has any more."""
    count = len(indices)
    return Deliver(job_id, indices, bytes([Status.LOST]) * count, [_LOST] * count)
