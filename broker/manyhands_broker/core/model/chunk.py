"""Tasks of a job in columns: a chunk of them, and consecutive ones within it."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from manyhands_shared.payloads.payload import Payload

if TYPE_CHECKING:
    from manyhands_broker.core.model.job import Job
    from manyhands_broker.core.model.node import Node
    from manyhands_broker.core.model.stored_value import StoredValue
    from manyhands_broker.core.model.task_input import Inputs

#: Tasks of a chunk.
CHUNK = 1_024


class Chunk:
    """Up to `CHUNK` consecutive tasks of a job. Positions in it are *offsets*, from 0."""

    __slots__ = (
        "attempts",
        "base",
        "holders",
        "inputs",
        "job",
        "left",
        "payloads",
        "results",
        "states",
    )

    def __init__(self, job: Job, base: int) -> None:
        self.job = job
        self.base = base
        self.states = bytearray()
        self.attempts = array("I")
        self.holders: list[Node | None] = []
        self.payloads: list[Payload | None] = []
        #: Offset → the stored values that an unfinished task refers to.
        self.inputs: dict[int, tuple[StoredValue[Node], ...]] = {}
        #: Offset → the results of other tasks that an unfinished task has for inputs.
        self.results: dict[int, Inputs] = {}
        self.left = 0


class Piece(NamedTuple):
    """Consecutive tasks within one chunk: offsets `lo` to `hi`, `hi` excluded."""

    chunk: Chunk
    lo: int
    hi: int

    @property
    def size(self) -> int:
        """How many tasks."""
        return self.hi - self.lo

    @property
    def indices(self) -> range:
        """Their indices in the job."""
        return range(self.chunk.base + self.lo, self.chunk.base + self.hi)

    def singles(self) -> list[Piece]:
        """Return the same tasks, one by one."""
        return [Piece(self.chunk, offset, offset + 1) for offset in range(self.lo, self.hi)]
