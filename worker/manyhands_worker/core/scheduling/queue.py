"""The tasks that wait on a node for a slot.

Tasks stay in the vectors they came in: `QueuedTasks` are a vector of one job and attempt, whose
front may be gone. So a thousand no-op tasks cost two list slices, not a thousand objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol.bounds import MAX_TASKS
from manyhands_worker.core.model import NO_RULES, Key, Parents, Rules

#: Arguments beyond this are not batched: a child would hold them all at once.
_BATCH_BYTES = 1 << 20


@dataclass(slots=True)
class QueuedTasks:
    """Waiting tasks of one job and attempt; those before `start` are gone.

    `function` is a digest, `code` what it stands for, as soon as that is here; likewise `modules`, for
    `rules.bundle`.
    `alone`: each runs in a batch of its own, because a child died near them.
    """

    key: Key
    function: bytes
    indices: list[int]
    bodies: list[Payload]
    code: Payload = b""
    rules: Rules = NO_RULES
    parents: Parents | None = None
    alone: bool = False
    start: int = 0
    modules: Payload = b""

    def __len__(self) -> int:
        return len(self.indices) - self.start

    def kind(self) -> tuple[Key, bytes, Rules, int, bool]:
        """What tasks must have in common to share one `QueuedTasks`."""
        return self.key, self.function, self.rules, id(self.parents), self.alone


class TaskQueue:
    """Chunks in the order they should run, and apart from them those that miss something."""

    def __init__(self) -> None:
        self._entries: deque[QueuedTasks] = deque()
        self._missing: dict[bytes, list[QueuedTasks]] = {}
        #: Tasks that could start now.
        self.ready = 0
        #: Tasks that wait for their function, bundle or environment.
        self.parked = 0

    @property
    def waiting(self) -> int:
        """All tasks in here."""
        return self.ready + self.parked

    def append(self, queued: QueuedTasks) -> None:
        """Add tasks behind all others."""
        self.ready += len(queued)
        last = self._entries[-1] if self._entries else None
        if (
            last is not None
            and last.kind() == queued.kind()
            and len(last) + len(queued) <= MAX_TASKS
        ):
            _forget_front(last)
            last.indices += queued.indices[queued.start :]
            last.bodies += queued.bodies[queued.start :]
        else:
            self._entries.append(queued)

    def push_front(self, entries: list[QueuedTasks]) -> None:
        """Put tasks back before all others, in the given order."""
        for queued in reversed(entries):
            if len(queued):
                self.ready += len(queued)
                self._entries.appendleft(queued)

    def park(self, queued: QueuedTasks, digest: bytes) -> bool:
        """Keep tasks until `unpark`. Returns whether they are the first to miss that digest."""
        self.parked += len(queued)
        waiting = self._missing.setdefault(digest, [])
        waiting.append(queued)
        return len(waiting) == 1

    def unpark(self, digest: bytes) -> list[QueuedTasks]:
        """A function, a bundle or an environment is here: take out the tasks that miss it."""
        found = self._missing.pop(digest, [])
        self.parked -= sum(map(len, found))
        return found

    def missing_count(self, digest: bytes) -> int:
        """How many tasks miss a digest."""
        return sum(map(len, self._missing.get(digest, ())))

    def take_back_missing(self, digest: bytes, count: int) -> list[tuple[Key, list[int]]]:
        """Take up to `count` of the tasks that miss a digest, those that came last."""
        taken: list[tuple[Key, list[int]]] = []
        entries = self._missing.get(digest, [])
        while entries and count:
            part = _cut_end(entries[-1], count)
            taken.append(part)
            count -= len(part[1])
            self.parked -= len(part[1])
            if not len(entries[-1]):
                entries.pop()
        if not entries:
            self._missing.pop(digest, None)
        return taken

    def missing(self) -> Iterator[bytes]:
        """The functions, bundles and environments that tasks wait for."""
        return iter(self._missing)

    def front(self) -> QueuedTasks | None:
        """The vector whose tasks come next."""
        return self._entries[0] if self._entries else None

    def first(self, count: int) -> Iterator[QueuedTasks]:
        """The first `count` vectors, in order."""
        return islice(self._entries, count)

    def take(
        self, count: int, queued: QueuedTasks | None = None
    ) -> tuple[list[int], list[Payload]]:
        """Take up to `count` tasks, at least one, off a vector (the first): indices and bodies."""
        queued = queued or self._entries[0]
        start = queued.start
        bodies = queued.bodies[start : start + count]
        if set(map(type, bodies)) != {bytes}:
            bodies = bodies[: _within(bodies, _BATCH_BYTES)]
        queued.start += len(bodies)
        self.ready -= len(bodies)
        if not len(queued):
            if queued is self._entries[0]:
                self._entries.popleft()
            else:
                self._entries = deque(other for other in self._entries if other is not queued)
        return queued.indices[start : start + len(bodies)], bodies

    def take_first(self, key: Key, index: int) -> QueuedTasks | None:
        """Take out a task if it is the very first; returns it as a vector of its own."""
        queued = self._entries[0] if self._entries else None
        if queued is None or queued.key != key or queued.indices[queued.start] != index:
            return None
        indices, bodies = self.take(1)
        return replace(queued, indices=indices, bodies=bodies, start=0)

    def take_back(self, count: int) -> list[tuple[Key, list[int]]]:
        """Take up to `count` tasks that would run last, those without a function before all."""
        taken: list[tuple[Key, list[int]]] = []
        for digest in [*self._missing]:
            parts = self.take_back_missing(digest, count)
            count -= sum(len(indices) for _, indices in parts)
            taken += parts
        while self._entries and count:
            part = _cut_end(self._entries[-1], count)
            taken.append(part)
            count -= len(part[1])
            self.ready -= len(part[1])
            if not len(self._entries[-1]):
                self._entries.pop()
        return taken

    def remove(self, key: Key, wanted: Collection[int]) -> list[int]:
        """Take out the tasks of `key` that are in `wanted`; returns which were there."""
        removed: list[int] = []
        for queued in self._entries:
            if queued.key == key:
                gone = _drop(queued, wanted)
                self.ready -= len(gone)
                removed += gone
        if removed:
            self._entries = deque(queued for queued in self._entries if len(queued))
        for function in [*self._missing]:
            for queued in self._missing[function]:
                if queued.key == key:
                    gone = _drop(queued, wanted)
                    self.parked -= len(gone)
                    removed += gone
            self._missing[function] = [queued for queued in self._missing[function] if len(queued)]
            if not self._missing[function]:
                del self._missing[function]
        return removed

    def entries(self) -> Iterator[QueuedTasks]:
        """All entries, waiting and parked."""
        yield from self._entries
        for entries in self._missing.values():
            yield from entries


def _within(bodies: list[Payload], limit: int) -> int:
    """Return how many of `bodies` come to `limit` bytes at most; at least one."""
    total = 0
    for count, body in enumerate(bodies):
        total += nbytes(body)
        if total > limit:
            return max(1, count)
    return len(bodies)


def _cut_end(queued: QueuedTasks, count: int) -> tuple[Key, list[int]]:
    at = max(queued.start, len(queued.indices) - count)
    indices = queued.indices[at:]
    del queued.indices[at:], queued.bodies[at:]
    return queued.key, indices


def _forget_front(queued: QueuedTasks) -> None:
    if queued.start:
        del queued.indices[: queued.start], queued.bodies[: queued.start]
        queued.start = 0


def _drop(queued: QueuedTasks, wanted: Collection[int]) -> list[int]:
    _forget_front(queued)
    gone = [index for index in queued.indices if index in wanted]
    if gone:
        stay = [at for at, index in enumerate(queued.indices) if index not in wanted]
        queued.indices = [queued.indices[at] for at in stay]
        queued.bodies = [queued.bodies[at] for at in stay]
    return gone
