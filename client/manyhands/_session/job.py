"""One job of a session: its unfinished tasks, and which of them are still to be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from itertools import accumulate, takewhile
from typing import Any

from manyhands._session.inputs.input_refs import DependentPayload, StoredPayload
from manyhands._session.job_history import JobHistory
from manyhands_shared.payloads.payload import Payload, nbytes, total
from manyhands_shared.protocol.messages import Dependency, Span, SubmitGroup

#: Sent in place of the arguments of a task that was cancelled while it waited here. It is no
#: pickle, so nothing can run; the broker is told to cancel it in the same breath.
BLANK = b""
#: Tasks named by one span.
SPAN_TASKS = 32_768


class SessionJob:
    """A job whose tasks are numbered from 0. `JobTable` keeps the totals."""

    __slots__ = (
        "at_most_once",
        "awaited",
        "blanks",
        "bodies",
        "cancelled",
        "close_sent",
        "closed",
        "doomed",
        "durable",
        "expected",
        "function",
        "functions",
        "history",
        "id",
        "inputs",
        "keeps",
        "next",
        "opened",
        "options",
        "queued",
        "refusal",
        "reported",
        "runs",
        "said",
        "stores",
        "subscribed",
        "taken",
    )

    def __init__(
        self, job_id: str, functions: list[bytes], options: dict[str, Any], *, subscribed: bool
    ) -> None:
        self.id = job_id
        self.function = functions[0]
        #: All that the broker is sent before the tasks: the function, and perhaps the bundle.
        self.functions = functions
        self.options = options
        #: Arguments of every task that has not ended.
        self.bodies: dict[int, Payload] = {}
        #: `[first, stop)` ranges of tasks to be sent, rising and apart.
        self.runs: deque[list[int]] = deque()
        #: The number of the next new task.
        self.next = 0
        #: Behind the last task that was sent: where a group that only closes the job begins.
        self.expected = 0
        #: The broker is known to have taken every task below.
        self.taken = 0
        #: The broker was told the options, on this link or one that it remembers.
        self.opened = False
        #: The broker may know of the job: it was sent something of it, heard of or not, and has not
        #: forgotten that since. What a journal may have is never forgotten.
        self.said = False
        self.closed = False
        self.close_sent = False
        #: Its tasks end here by a subscription, which also says when the last one has.
        self.subscribed = subscribed
        #: Nothing more of it comes here, and the session was told so.
        self.reported = False
        #: Stands in the session's line of jobs with something to send.
        self.queued = False
        #: Unfinished tasks that are to be cancelled, and those of them that were not sent before. These
        #: go with `BLANK` for arguments. The word that they are cancelled goes behind them.
        self.cancelled: set[int] = set()
        self.blanks: set[int] = set()
        #: The whole job is cancelled.
        self.doomed = False
        #: Why the broker takes no more tasks of it, as a failure; `None` as long as it does.
        self.refusal: bytes | None = None
        #: The broker's journal keeps what the broker has accepted, so that we need not.
        self.durable = bool(options.get("durable"))
        #: `Submit` messages of a durable job on this link that are not answered. Each is, by one
        #: `Accepted`, so that none is left is what says that the job's closing was written down.
        self.awaited = 0
        #: What another broker must be told of it; `None` before its first tasks were sent.
        self.history: JobHistory | None = None
        #: Which results of other tasks unended tasks have for inputs.
        self.inputs: dict[int, tuple[tuple[str, int], ...]] = {}
        #: Some of its tasks have referred to stored values.
        self.stores = False
        #: Its results stay with their nodes until they are asked for.
        self.keeps = bool(options.get("keep"))
        #: A task that was sent must not be sent again to a broker that does not know of it.
        self.at_most_once = bool(options.get("at_most_once")) and not self.durable

    def append(self, bodies: list[Payload]) -> int:
        """Add tasks; return their bytes."""
        stop = self.next + len(bodies)
        self.bodies.update(zip(range(self.next, stop), bodies, strict=True))
        if self.runs and self.runs[-1][1] == self.next:
            self.runs[-1][1] = stop
        elif bodies:
            self.runs.append([self.next, stop])
        self.next = stop
        kinds = set(map(type, bodies))
        if DependentPayload in kinds:
            for index, body in enumerate(bodies, stop - len(bodies)):
                if isinstance(body, DependentPayload):
                    self.inputs[index] = body.results
        if not self.stores:
            self.stores = not kinds.isdisjoint((StoredPayload, DependentPayload))
        return total(bodies)

    @property
    def has_work(self) -> bool:
        """Whether the broker is to be sent something: tasks, or that there will be no more."""
        return bool(self.runs) or (self.closed and not self.close_sent)

    @property
    def sends_alone(self) -> bool:
        """Whether one more task would be sent by itself, and nothing else said of the job."""
        return self.opened and not (self.closed or self.durable or self.runs or self.refusal)

    @property
    def over(self) -> bool:
        """Whether nothing is left to happen, here or at the broker."""
        if not self.closed or self.bodies:
            return False
        if not self.said:
            return not self.durable or self.doomed or self.refusal is not None
        return self.close_sent and not self.awaited

    @property
    def finished(self) -> bool:
        """Whether no task of it ends here any more; not for the table to say of one subscribed to."""
        if not self.closed or self.subscribed:
            return False
        if self.durable:
            return self.over or self.doomed or self.refusal is not None
        return not self.bodies

    def next_size(self) -> int:
        """Bytes of the task that is to be sent next."""
        return nbytes(self.bodies[self.runs[0][0]])

    def next_group(self, max_tasks: int, max_bytes: int) -> tuple[SubmitGroup, int]:
        """Take up to that much off the first run (one task at least), with its bytes."""
        first, bodies, size = self.expected, [], 0
        if self.runs:
            run = self.runs[0]
            first = run[0]
            bodies = list(
                map(self.bodies.__getitem__, range(first, min(run[1], first + max_tasks)))
            )
            size = total(bodies)
            if size > max_bytes:
                sizes = list(accumulate(map(nbytes, bodies)))
                count = max(1, sum(1 for upto in sizes if upto <= max_bytes))
                bodies, size = bodies[:count], sizes[count - 1]
            run[0] += len(bodies)
            if run[0] == run[1]:
                self.runs.popleft()
        options = None if self.opened else self.options
        self.opened = self.said = True
        self.expected = first + len(bodies)
        self.close_sent = self.closed and not self.runs
        return SubmitGroup(self.id, self.function, options, first, self.close_sent, bodies), size

    def is_unsent(self, index: int) -> bool:
        """Whether a task is still to be sent."""
        return any(first <= index < stop for first, stop in self.runs)

    def dependencies(self, group: SubmitGroup) -> list[Dependency]:
        """What the tasks of a group have for inputs."""
        indices = range(group.first, group.first + len(group.bodies)) if self.inputs else ()
        return [
            Dependency(self.id, index, *task)
            for index in indices
            for task in self.inputs.get(index, ())
        ]

    def confirm(self, count: int) -> None:
        """The broker has this many tasks of the job."""
        self.taken = min(max(self.taken, count), self.next)

    def journaled(self) -> list[int]:
        """Unfinished tasks that the broker's journal has."""
        if not self.durable:
            return []
        return list(takewhile(lambda index: index < self.taken, self.bodies))

    def sent(self) -> list[int]:
        """Unfinished tasks that the broker was sent."""
        unsent = {index for first, stop in self.runs for index in range(first, stop)}
        return [index for index in self.bodies if index not in unsent]

    def rewind(self, *, resumed: bool) -> None:
        """After a new welcome: everything that the broker may lack is to be sent again."""
        if not (resumed or self.durable):
            self.taken = 0
            self.said = False
        self.opened = resumed and self.opened and self.taken > 0
        self.awaited = 0
        self.close_sent = False
        self.expected = self.taken
        self.blanks.clear()
        self.runs = _ranges(sorted(index for index in self.bodies if index >= self.taken))

    def blank(self, indices: Iterable[int], needed: Container[tuple[str, int]]) -> int:
        """Take the arguments away from those of these tasks that are not sent; return the bytes.

        Those whose results are `needed` keep theirs. They may run before the broker hears that they are
        cancelled, and without arguments they would fail for whom needs them.
        """
        freed = 0
        for index in indices:
            if any(first <= index < stop for first, stop in self.runs):
                self.blanks.add(index)
                if (self.id, index) not in needed:
                    freed += nbytes(self.bodies[index])
                    self.bodies[index] = BLANK
        return freed

    def blanks_in(self, group: SubmitGroup) -> list[int]:
        """The tasks of a group that carry no arguments."""
        stop = group.first + len(group.bodies)
        return sorted(i for i in self.blanks if group.first <= i < stop) if self.blanks else []

    def spans(self, indices: Iterable[int]) -> list[Span]:
        """These tasks, in as many spans as the limit on vectors asks for; never an empty one."""
        rising = sorted(indices)
        return [
            Span(self.id, 0, rising[start : start + SPAN_TASKS])
            for start in range(0, len(rising), SPAN_TASKS)
        ]

    def take_unsent(self) -> list[int]:
        """Every task that is still to be sent; none of them is any more."""
        indices = [index for first, stop in self.runs for index in range(first, stop)]
        self.runs.clear()
        return indices

    def drop_runs(self, indices: Iterable[int]) -> list[Payload]:
        """These need not be sent (again); return the arguments of those that were to be."""
        waiting = set(self.take_unsent())
        dropped = waiting.intersection(indices)
        self.runs = _ranges(sorted(waiting - dropped))
        return [self.bodies[index] for index in dropped]

    def unsent_tasks(self) -> int:
        """How many tasks are still to be sent."""
        return sum(stop - first for first, stop in self.runs)

    def unsent_bytes(self) -> int:
        """Bytes of their arguments."""
        return total(
            [self.bodies[index] for first, stop in self.runs for index in range(first, stop)]
        )

    def validate(self) -> None:
        """Check every invariant of this job."""
        edges = [edge for run in self.runs for edge in run]
        assert edges == sorted(edges), f"{self.id}: ranges overlap"
        assert all(first < stop for first, stop in self.runs), f"{self.id}: an empty range"
        unsent = {index for first, stop in self.runs for index in range(first, stop)}
        assert unsent <= self.bodies.keys(), f"{self.id}: to be sent but not there"
        assert all(0 <= index < self.next for index in self.bodies), (
            f"{self.id}: number out of range"
        )
        assert self.cancelled <= self.bodies.keys(), f"{self.id}: cancels what has ended"
        assert self.inputs.keys() <= self.bodies.keys(), f"{self.id}: inputs of what has ended"
        assert self.blanks <= self.cancelled, f"{self.id}: took arguments of a living task"
        assert not (self.close_sent and self.runs), f"{self.id}: closed with tasks to be sent"
        assert self.reported or not self.finished, f"{self.id}: is finished, and not said to be"
        assert self.taken <= self.next, f"{self.id}: confirmed what does not exist"
        assert self.said or not (self.opened or self.taken), f"{self.id}: known and never told of"


def _ranges(indices: list[int]) -> deque[list[int]]:
    """Rising numbers as `[first, stop)` ranges."""
    runs: deque[list[int]] = deque()
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1][1] = index + 1
        else:
            runs.append([index, index + 1])
    return runs
