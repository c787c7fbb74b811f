"""Sets of tasks by job and attempt, with the vector operations that a node needs."""

from __future__ import annotations

from collections.abc import Iterable

from manyhands_shared.protocol.bounds import MAX_TASKS
from manyhands_shared.protocol.messages import Span
from manyhands_worker.core.model import Key


class TaskSet:
    """A set of (job, attempt, index)."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: dict[Key, set[int]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._tasks.values()))

    def add(self, key: Key, indices: Iterable[int]) -> set[int]:
        """Add tasks; returns those that are new."""
        here = self._tasks.setdefault(key, set())
        fresh = set(indices) - here
        here |= fresh
        if not here:
            del self._tasks[key]
        return fresh

    def discard(self, key: Key, indices: Iterable[int]) -> None:
        """Take tasks out, as far as they are in."""
        here = self._tasks.get(key)
        if here is not None:
            here.difference_update(indices)
            if not here:
                del self._tasks[key]

    def jobs(self) -> set[str]:
        """The jobs that tasks in here are of."""
        return {job for job, _ in self._tasks}

    def has_job(self, job: str) -> bool:
        """Whether some task of a job is in."""
        return any(key[0] == job for key in self._tasks)

    def has(self, key: Key, index: int) -> bool:
        """Whether a task is in."""
        here = self._tasks.get(key)
        return here is not None and index in here

    def has_all(self, key: Key, indices: Iterable[int]) -> bool:
        """Whether all these tasks are in."""
        here = self._tasks.get(key)
        return here is not None and here.issuperset(indices)

    def items(self) -> list[tuple[Key, set[int]]]:
        """Copies of all tasks, by key."""
        return [(key, set(indices)) for key, indices in self._tasks.items()]

    def matching(self, spans: Iterable[Span]) -> list[tuple[Key, set[int]]]:
        """The tasks that `spans` name. No indices: all of the job. Attempt 0: any attempt."""
        found = []
        for span in spans:
            wanted = set(span.indices)
            for key, here in self._tasks.items():
                if key[0] == span.job and span.attempt in (0, key[1]):
                    both = here & wanted if wanted else set(here)
                    if both:
                        found.append((key, both))
        return found

    def keep_only(self, spans: Iterable[Span]) -> dict[Key, set[int]]:
        """Take out everything that `spans` do not name; returns it."""
        wanted: dict[Key, set[int]] = {}
        for key, indices in self.matching(spans):
            wanted.setdefault(key, set()).update(indices)
        dropped = {key: here - wanted.get(key, set()) for key, here in self._tasks.items()}
        self._tasks = wanted
        return {key: indices for key, indices in dropped.items() if indices}

    def spans(self) -> list[Span]:
        """All tasks, as a message carries them."""
        found = []
        for (job, attempt), here in self._tasks.items():
            indices = sorted(here)
            found += [
                Span(job, attempt, indices[at : at + MAX_TASKS])
                for at in range(0, len(indices), MAX_TASKS)
            ]
        return found
