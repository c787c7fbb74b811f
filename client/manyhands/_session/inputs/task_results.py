"""Results that tasks of this session have for inputs: which tasks need them, and what has ended already.

The broker keeps what it has had as long as a task needs it. But it may be another broker, or have sent a
result here just before it heard of the task. So this keeps everything that has ended and that a task
needs which has not. The broker asks for what it lacks (`WantResults`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from manyhands._session.effects import Deliver
from manyhands._session.inputs.input_refs import DependentPayload
from manyhands_shared.payloads.payload import Payload, nbytes
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import KnownResults, ResultGroup, Span, Status

if TYPE_CHECKING:
    from manyhands._session.job import SessionJob

#: A task's job and index.
Task = tuple[str, int]
#: Bytes of results in one message, beyond its first.
_MESSAGE_BYTES = 4 << 20
_MESSAGE_RESULTS = 4_096
_UNKNOWN = Failure(
    "manyhands.TaskLost", "the result that the task was to be given is not known any more"
).encode()


class TaskResults:
    """Counts who needs what."""

    def __init__(self) -> None:
        #: Unended tasks that need a result.
        self.needed: dict[Task, int] = {}
        #: Those results that no task needs any more, until the session takes them off.
        self.unneeded: list[Task] = []
        #: Results that have not ended, and that a task needs or has needed, or that are kept.
        self.inputs: set[Task] = set()
        self._ended: dict[Task, tuple[int, Payload]] = {}
        #: What the broker lacks and has not ended here, and what it is to be told.
        self._lacking: set[Task] = set()
        self.answers: list[Task] = []

    @property
    def has_news(self) -> bool:
        """Whether a result is not needed any more, or to be sent."""
        return bool(self.unneeded or self.answers)

    def appended(self, job: SessionJob, first: int, bodies: list[Payload]) -> None:
        """A job has these new tasks."""
        if job.keeps:
            self.inputs.update((job.id, index) for index in range(first, first + len(bodies)))
        if job.inputs:
            for body in bodies:
                if isinstance(body, DependentPayload):
                    self.need(body.results, body.known)

    def need(self, tasks: Iterable[Task], known: dict[Task, tuple[int, Payload]]) -> None:
        """A new task needs these; those of them that have ended are `known`."""
        for task in tasks:
            self.needed[task] = self.needed.get(task, 0) + 1
            if task in known:
                self._ended.setdefault(task, known[task])
            elif task not in self._ended:
                self.inputs.add(task)

    def release(self, tasks: Iterable[Task]) -> None:
        """A task that needed these has ended."""
        for task in tasks:
            self.needed[task] -= 1
            if not self.needed[task]:
                del self.needed[task]
                self._ended.pop(task, None)
                self._lacking.discard(task)
                self.unneeded.append(task)

    def note(self, ended: Deliver) -> None:
        """Tasks have ended; keep what others need."""
        if not (self.inputs or self.needed):
            return
        for index, status, body in zip(ended.indices, ended.statuses, ended.bodies, strict=True):
            task = ended.job, index
            self.inputs.discard(task)
            if task in self.needed:
                self._ended.setdefault(task, (status, body))
                if task in self._lacking:
                    self._lacking.remove(task)
                    self.answers.append(task)

    def want(self, spans: list[Span], unended: Iterable[Task]) -> None:
        """The broker lacks these; `unended` are those of them that are still to end."""
        later = set(unended)
        for span in spans:
            for index in span.indices:
                task = span.job, index
                if task in self._ended or task not in later:
                    self.answers.append(task)
                else:
                    self._lacking.add(task)

    def welcomed(self) -> None:
        """Another link: the broker asks again."""
        self._lacking.clear()
        self.answers.clear()

    def messages(self) -> Iterator[KnownResults]:
        """What the broker has asked for, as far as it is there."""
        tasks, self.answers = self.answers, []
        groups: list[ResultGroup] = []
        size = 0
        for task in dict.fromkeys(tasks):
            if task not in self.needed:
                continue
            status, body = self._ended.get(task, (Status.LOST, _UNKNOWN))
            groups.append(ResultGroup(task[0], 0, [task[1]], bytes([status]), [body], 0.0))
            size += nbytes(body)
            if size >= _MESSAGE_BYTES or len(groups) >= _MESSAGE_RESULTS:
                yield KnownResults(groups)
                groups, size = [], 0
        if groups:
            yield KnownResults(groups)

    def validate(self) -> None:
        """Check every invariant that needs no job."""
        assert self._ended.keys() <= self.needed.keys(), "keeps results that no task needs"
        assert self._lacking <= self.needed.keys(), "owes results that no task needs"
        assert not self._lacking & self._ended.keys(), "owes a result that it has"
        assert all(count > 0 for count in self.needed.values()), "needed by no task"
