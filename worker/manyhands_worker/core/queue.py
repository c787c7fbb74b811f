"""The tasks that wait on a node for a slot.

Tasks stay in the vectors they came in: a chunk is a vector of one job and attempt, of which the
front has been taken already. So a thousand no-op tasks cost two list slices, not a thousand objects.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol.bounds import MAX_TASKS
from manyhands_worker.core.model import NO_RULES, Key, Parents, Rules

#: Arguments beyond this are not batched: a child would hold them all at once.
_BATCH_BYTES = 1 << 20


@dataclass(slots=True)
class Chunk:
    """Waiting tasks of one job and attempt; those before `start` are gone.

    `function` is a digest, `code` what it stands for, as soon as that is here.
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

    def __len__(self) -> int:
        return len(self.indices) - self.start

    def kind(self) -> tuple[Key, bytes, Rules, int, bool]:
        """What tasks must have in common to share a chunk."""
        return self.key, self.function, self.rules, id(self.parents), self.alone


class TaskQueue:
    """Chunks in the order they should run, and apart from them those whose function is missing."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._missing: dict[bytes, list[Chunk]] = {}
        #: Tasks that could start now.
        self.ready = 0
        #: Tasks that wait for their function.
        self.parked = 0

    @property
    def waiting(self) -> int:
        """All tasks in here."""
        return self.ready + self.parked

    def append(self, chunk: Chunk) -> None:
        """Add tasks behind all others."""
        self.ready += len(chunk)
        last = self._chunks[-1] if self._chunks else None
        if last is not None and last.kind() == chunk.kind() and len(last) + len(chunk) <= MAX_TASKS:
            _forget_front(last)
            last.indices += chunk.indices[chunk.start :]
            last.bodies += chunk.bodies[chunk.start :]
        else:
            self._chunks.append(chunk)

    def push_front(self, chunks: list[Chunk]) -> None:
        """Put tasks back before all others, in the given order."""
        for chunk in reversed(chunks):
            if len(chunk):
                self.ready += len(chunk)
                self._chunks.appendleft(chunk)

    def park(self, chunk: Chunk) -> bool:
        """Keep tasks until `unpark`. Returns whether they are the first to miss their function."""
        self.parked += len(chunk)
        waiting = self._missing.setdefault(chunk.function, [])
        waiting.append(chunk)
        return len(waiting) == 1

    def unpark(self, function: bytes, code: Payload) -> None:
        """A function has come."""
        for chunk in self._missing.pop(function, ()):
            self.parked -= len(chunk)
            chunk.code = code
            self.append(chunk)

    def missing(self) -> Iterator[bytes]:
        """The functions that tasks wait for."""
        return iter(self._missing)

    def front(self) -> Chunk | None:
        """The chunk whose tasks come next."""
        return self._chunks[0] if self._chunks else None

    def take(self, count: int) -> tuple[list[int], list[Payload]]:
        """Take up to `count` tasks, at least one, off the front chunk: indices and bodies."""
        chunk = self._chunks[0]
        start = chunk.start
        bodies = chunk.bodies[start : start + count]
        if set(map(type, bodies)) != {bytes}:
            bodies = bodies[: _within(bodies, _BATCH_BYTES)]
        chunk.start += len(bodies)
        self.ready -= len(bodies)
        if not len(chunk):
            self._chunks.popleft()
        return chunk.indices[start : start + len(bodies)], bodies

    def take_first(self, key: Key, index: int) -> Chunk | None:
        """Take out a task if it is the very first; returns it as a chunk of its own."""
        chunk = self._chunks[0] if self._chunks else None
        if chunk is None or chunk.key != key or chunk.indices[chunk.start] != index:
            return None
        indices, bodies = self.take(1)
        return replace(chunk, indices=indices, bodies=bodies, start=0)

    def take_back(self, count: int) -> list[tuple[Key, list[int]]]:
        """Take up to `count` tasks that would run last, those without a function before all."""
        taken: list[tuple[Key, list[int]]] = []
        for function in [*self._missing]:
            chunks = self._missing[function]
            while chunks and count:
                part = _cut_end(chunks[-1], count)
                taken.append(part)
                count -= len(part[1])
                self.parked -= len(part[1])
                if not len(chunks[-1]):
                    chunks.pop()
            if not chunks:
                del self._missing[function]
        while self._chunks and count:
            part = _cut_end(self._chunks[-1], count)
            taken.append(part)
            count -= len(part[1])
            self.ready -= len(part[1])
            if not len(self._chunks[-1]):
                self._chunks.pop()
        return taken

    def remove(self, key: Key, wanted: Collection[int]) -> list[int]:
        """Take out the tasks of `key` that are in `wanted`; returns which were there."""
        removed: list[int] = []
        for chunk in self._chunks:
            if chunk.key == key:
                gone = _drop(chunk, wanted)
                self.ready -= len(gone)
                removed += gone
        if removed:
            self._chunks = deque(chunk for chunk in self._chunks if len(chunk))
        for function in [*self._missing]:
            for chunk in self._missing[function]:
                if chunk.key == key:
                    gone = _drop(chunk, wanted)
                    self.parked -= len(gone)
                    removed += gone
            self._missing[function] = [chunk for chunk in self._missing[function] if len(chunk)]
            if not self._missing[function]:
                del self._missing[function]
        return removed

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, waiting and parked."""
        yield from self._chunks
        for chunks in self._missing.values():
            yield from chunks


def _within(bodies: list[Payload], limit: int) -> int:
    """Return how many of `bodies` come to `limit` bytes at most; at least one."""
    total = 0
    for count, body in enumerate(bodies):
        total += nbytes(body)
        if total > limit:
            return max(1, count)
    return len(bodies)


def _cut_end(chunk: Chunk, count: int) -> tuple[Key, list[int]]:
    at = max(chunk.start, len(chunk.indices) - count)
    indices = chunk.indices[at:]
    del chunk.indices[at:], chunk.bodies[at:]
    return chunk.key, indices


def _forget_front(chunk: Chunk) -> None:
    if chunk.start:
        del chunk.indices[: chunk.start], chunk.bodies[: chunk.start]
        chunk.start = 0


def _drop(chunk: Chunk, wanted: Collection[int]) -> list[int]:
    _forget_front(chunk)
    gone = [index for index in chunk.indices if index in wanted]
    if gone:
        stay = [at for at, index in enumerate(chunk.indices) if index not in wanted]
        chunk.indices = [chunk.indices[at] for at in stay]
        chunk.bodies = [chunk.bodies[at] for at in stay]
    return gone
