"""Durable jobs whose results are wanted here, each result once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from manyhands._session.effects import Deliver
from manyhands_shared.payloads.payload import Payload

#: More tasks than any job has: a number above is no task's, and memory for it would be wasted.
_MAX_TASKS = 1 << 32


class Watches:
    """What is watched, and which results of it have been seen (one byte a task)."""

    def __init__(self) -> None:
        #: Tasks submitted by this session, of all watched jobs, whose results have not come.
        self.owed = 0
        self._seen: dict[str, bytearray] = {}
        self._owed: dict[str, int] = {}
        self._held: set[str] = set()

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._seen

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._seen))

    def add(self, job_id: str) -> None:
        """Watch a job."""
        self._seen[job_id] = bytearray()
        self._held.discard(job_id)
        self._owed[job_id] = 0

    def drop(self, job_id: str) -> None:
        """Watch it no more."""
        del self._seen[job_id]
        self._held.discard(job_id)
        self.owed -= self._owed.pop(job_id)

    def hold(self, job_id: str, *, on: bool) -> None:
        """Results of a watched job are to stay with the broker, or no longer."""
        (self._held.add if on else self._held.discard)(job_id)

    def holds(self, job_id: str) -> bool:
        """Whether they are."""
        return job_id in self._held

    def owe(self, job_id: str, count: int) -> None:
        """So many tasks were submitted here; nothing if the job is not watched."""
        if job_id in self._owed:
            self._owed[job_id] += count
            self.owed += count

    def unseen(self, job_id: str, indices: Iterable[int]) -> list[int]:
        """Those of these tasks that have not ended, as far as is known here."""
        seen = self._seen[job_id]
        return [index for index in indices if index >= len(seen) or not seen[index]]

    def take(
        self, job_id: str, indices: list[int], statuses: bytes, bodies: list[Payload]
    ) -> Deliver | None:
        """Results of a watched job; `None` if every one of them was seen before."""
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
        return Deliver(job_id, indices, statuses, bodies)

    def validate(self) -> None:
        """Check every invariant."""
        assert self._seen.keys() == self._owed.keys(), "watched jobs"
        assert self._held <= self._seen.keys(), "held back, but not watched"
        assert self.owed == sum(self._owed.values()), "owed tasks"
        assert all(owed >= 0 for owed in self._owed.values()), "owed less than nothing"
