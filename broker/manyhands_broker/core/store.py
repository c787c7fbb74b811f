"""What the scheduler reads back from the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from manyhands_shared.errors import ManyhandsError
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.messages import Function, ResultGroup


class StoreFailed(ManyhandsError):
    """The journal as a whole cannot be used: no failure of one job."""


class StoredResults(NamedTuple):
    """Results in the order in which they were written; `position` rises."""

    position: int
    group: ResultGroup


class StoredOutput(NamedTuple):
    """A text that a task printed; `position` rises with each of its job."""

    position: int
    task: int
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class Damaged:
    """Stands for what was committed and cannot be read back; `reason` says why."""

    reason: str


class Store(Protocol):
    """The reading side of a journal. Only what has been committed is seen."""

    #: Whether what it holds outlives the broker.
    is_lasting: bool

    def has_room(self, nbytes: int) -> bool:
        """Return whether `nbytes` more of submissions fit, with a reserve left for results."""

    def gone(self) -> str:
        """Return where the journal's files went, in a sentence; empty while they are where they were."""

    def backup(self, directory: str, *, begin: bool) -> dict[str, Any]:
        """Begin a whole copy in `directory`, or tell how far the one there is.

        Raises:
            LookupError: it cannot be made; the text says why.
        """

    def function(self, digest: bytes) -> Function | Damaged | None:
        """Return a function that was stored."""

    def bodies(self, job: str, first: int, stop: int) -> list[Payload | Damaged]:
        """Return the payloads of tasks `first` to `stop` (excluded), as far as there are such tasks."""

    def results(self, job: str, after: int, limit: int) -> Sequence[StoredResults]:
        """Return results of a job behind position `after`: at least one, about `limit` bytes.

        One that is damaged is `Status.LOST`, with a failure that says why.
        """

    def last_position(self, job: str) -> int:
        """Return the position of the last committed results of a job; 0 if it has none."""

    def output(
        self, job: str, limit: int, *, after: int | None = None, task: int | None = None
    ) -> Sequence[StoredOutput]:
        """Return the last `limit` texts that the job's tasks printed, or that one `task` did.

        Behind position `after` it is the first `limit` texts. Both come with the oldest first.
        """

    def history(self, job: str) -> dict[str, Any] | None:
        """Return what was remembered of a job that is over; `None` if nothing was, or it is damaged."""
