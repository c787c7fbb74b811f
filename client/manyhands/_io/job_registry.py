"""What users have open on a session: jobs, subscriptions, questions. All for the I/O thread.

What they want becomes events of the session core; what the core says of jobs goes to their sinks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import count, groupby
from operator import itemgetter
from typing import Any

from manyhands._io.open_job import Input, OpenJob, Sink
from manyhands._io.transfers import Transfers
from manyhands._session.effects import Answered, Deliver
from manyhands._session.events import (
    AddJob,
    Append,
    Ask,
    AskResult,
    CancelOther,
    CancelTasks,
    CloseJob,
    DropResult,
    Event,
    PauseResults,
    Subscribe,
    Unsubscribe,
)
from manyhands._session.inputs.input_refs import DependentPayload
from manyhands_shared.errors import (
    ConfigError,
    NotAuthorised,
    Refused,
    SubmitRejected,
    TaskLost,
)
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import DENIED, Function, Query


class JobRegistry:
    """See the module.

    Args:
        transfers: knows what nodes must know of the session.
        handle: takes events of the session core.
    """

    def __init__(self, transfers: Transfers, handle: Callable[[Event], None]) -> None:
        self._transfers = transfers
        self._handle = handle
        self._jobs: dict[str, OpenJob] = {}
        #: The tasks that the session is just told of, and where they come from.
        self._appended: tuple[Sink, Sequence[Any]] | None = None
        self._subscribers: dict[str, Sink] = {}
        self._requests = count(1)
        self._answers: dict[int, Future[Any]] = {}
        self._over: BaseException | None = None

    # What users want ----------------------------------------------------------------------------

    def take(self, entries: Sequence[tuple[Any, Any, Any]]) -> None:
        """What was queued: tasks of jobs, and commands to be called, in order."""
        for job, group in groupby(entries, itemgetter(0)):
            if job is None:
                for _, command, _ in group:
                    command()
            else:
                _, all_tasks, all_payloads = zip(*group, strict=True)
                tasks: Sequence[Any] = all_tasks
                payloads: Sequence[Payload] = all_payloads
                if job.closed:
                    job.sink.reject(tasks, payloads)
                elif DependentPayload in set(map(type, payloads)):
                    self._append_dependent(job, tasks, payloads)
                else:
                    self._append(job, tasks, payloads)

    def _append(self, job: OpenJob, tasks: Sequence[Any], payloads: Sequence[Payload]) -> None:
        self._appended = job.sink, tasks
        job.tasks += len(tasks)
        self._handle(Append(job.id, list(payloads)))

    def _append_dependent(
        self, job: OpenJob, tasks: Sequence[Any], payloads: Sequence[Payload]
    ) -> None:
        """Append tasks, and name the inputs that some of them have.

        An input may be one of the tasks before. It has its number once that is appended.
        """
        start = 0
        for place, payload in enumerate(payloads):
            if not isinstance(payload, DependentPayload) or self._bind(payload):
                continue
            if start < place:
                self._append(job, tasks[start:place], payloads[start:place])
                start = place
            if not self._bind(payload):
                # The input was queued again, as its job is closed.
                job.sink.reject([tasks[place]], [payload])
                start = place + 1
        if start < len(tasks):
            self._append(job, tasks[start:], payloads[start:])

    def _bind(self, payload: DependentPayload) -> bool:
        """Name the inputs of a task; false if one of them has no number yet."""
        inputs: list[Input] = payload.futures
        found = [future.as_input() for future in inputs]
        if None in found:
            return False
        named = [entry for entry in found if entry is not None]
        payload.results = tuple(task for task, _ in named)
        payload.known = {task: ended for task, ended in named if ended is not None}
        payload.futures = []
        return True

    def ask_result(self, job: OpenJob, index: int) -> None:
        """Bring a result here that may stay with its node."""
        if job.id in self._jobs:
            self._handle(AskResult(job.id, index))

    def drop_result(self, job: OpenJob, index: int) -> None:
        """The result of such a task is not wanted here any more."""
        if job.id in self._jobs:
            self._handle(DropResult(job.id, index))

    def open(self, job: OpenJob) -> None:
        """Begin a job."""
        if self._over is not None:
            job.closed = True
            job.sink.fail(self._over)
            return
        self._jobs[job.id] = job
        options = self._transfers.options(job.options)
        code = options.get("bundle")
        if isinstance(code, Function):
            options = {**options, "bundle": code.digest.hex()}
        else:
            code = None
        subscribe = job.on_journaled is None
        self._handle(AddJob(job.id, job.function, options, subscribe, code))

    def close(self, job: OpenJob) -> None:
        """The job gets no more tasks."""
        if not job.closed:
            job.closed = True
            self._handle(CloseJob(job.id))

    def close_all(self) -> None:
        """No job gets more tasks."""
        for job in list(self._jobs.values()):
            self.close(job)

    def cancel(self, job: OpenJob, find: Callable[[], list[int]] | None = None) -> None:
        """Cancel a job, or those of its tasks that `find` names."""
        if job.id not in self._jobs:
            return
        if find is None:
            job.closed = job.cancelled = True
            self._handle(CancelTasks(job.id, None))
        else:
            indices = find()
            if indices:
                self._handle(CancelTasks(job.id, indices))

    def begin_cell(self) -> None:
        """What is submitted from now on is of another cell of the notebook."""
        for job in self._jobs.values():
            job.tasks_before_cell = job.tasks

    def cancel_cell(self) -> None:
        """Cancel what was submitted since, but for durable jobs."""
        for job in list(self._jobs.values()):
            if not job.options.get("durable"):
                self.cancel(job, partial(list, range(job.tasks_before_cell, job.tasks)))

    def cancel_other(self, job_id: str) -> None:
        """Cancel a job of any session by its id."""
        self._handle(CancelOther(job_id))

    def subscribe(self, job_id: str, sink: Sink) -> None:
        """Have every result of a durable job delivered to `sink`, and to no other one any more."""
        if self._over is not None:
            sink.fail(self._over)
            return
        self.unsubscribe(job_id, self._subscribers.get(job_id))
        self._subscribers[job_id] = sink
        self._handle(Subscribe(job_id))

    def unsubscribe(self, job_id: str, sink: Sink | None) -> None:
        """End that, unless another sink has taken over."""
        if sink is not None and self._subscribers.get(job_id) is sink:
            del self._subscribers[job_id]
            self._handle(Unsubscribe(job_id))

    def pause_results(self, job_id: str, sink: Sink, pause: bool) -> None:
        """Leave results that `sink` is to get with the broker, or go on where that began."""
        if self._subscribers.get(job_id) is sink:
            self._handle(PauseResults(job_id, pause))

    def ask(self, answer: Future[Any], what: str, arguments: dict[str, Any]) -> None:
        """Put a question to the broker."""
        if self._over is not None:
            answer.set_exception(self._over)
            return
        if wrong := wire.refusal(Query(0, what, arguments)):
            answer.set_exception(ConfigError(f"a query takes a few plain values: {wrong}"))
            return
        request = next(self._requests)
        self._answers[request] = answer
        self._handle(Ask(request, what, arguments))

    # What the session says ----------------------------------------------------------------------

    def numbered(self, first: int) -> None:
        """Tell the sink the numbers of the tasks that were appended last."""
        assert self._appended is not None
        (sink, tasks), self._appended = self._appended, None
        sink.accept(first, tasks)

    def deliver(self, ended: Deliver) -> None:
        """Tell the sink of tasks that have ended."""
        job = self._jobs.get(ended.job)
        if job is not None:
            job.sink.deliver(ended.indices, ended.statuses, ended.bodies)
        elif ended.job in self._subscribers:
            self._subscribers[ended.job].deliver(ended.indices, ended.statuses, ended.bodies)

    def stays(self, job_id: str, index: int) -> None:
        """Tell of a task that has ended, and whose result does not come."""
        job = self._jobs.get(job_id)
        if job is not None and job.on_stay is not None:
            job.on_stay(index)

    def printing_rules(self, job_id: str) -> tuple[bool, bool]:
        """Return whether what a job prints is shown with a prefix, and whether it is a safe job."""
        job = self._jobs.get(job_id)
        options = {} if job is None else job.options
        return bool(options.get("prefix")), bool(options.get("safe"))

    def journaled(self, job_id: str) -> None:
        """Tell that the journal has a job as a whole."""
        job = self._jobs.get(job_id)
        if job is not None and job.on_journaled is not None:
            job.on_journaled()

    def turned_down(self, job_id: str, reason: str) -> None:
        """Close a job: the broker takes no more tasks of it."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        if job.on_journaled is not None:
            job.sink.fail(SubmitRejected(reason))
        # What comes now goes into another job, which may be taken.
        self.close(job)

    def vanished(self, job_id: str) -> None:
        """The broker has nothing of a job: what has not come of it never will."""
        error = TaskLost(
            f"the broker has no job {job_id}: forgotten, or lost with a broker that had no journal"
        )
        subscriber = self._subscribers.pop(job_id, None)
        if subscriber is not None:
            subscriber.fail(error)
        job = self._jobs.get(job_id)
        if job is not None:
            job.sink.fail(error)

    def over(self, job_id: str) -> None:
        """Forget a job: nothing more comes of it."""
        job = self._jobs.pop(job_id, None)
        if job is not None:
            # A caller that still queues a task has the sink. The two together are large garbage, if the
            # function is, which would lie there until the collector comes.
            job.sink = weakref.proxy(job.sink)

    def answered(self, reply: Answered) -> None:
        """A question has its answer."""
        answer = self._answers.pop(reply.request)
        if reply.error:
            denied = reply.data == DENIED
            answer.set_exception(
                NotAuthorised(reply.error) if denied else Refused("query", reply.error)
            )
        else:
            answer.set_result(reply.data)

    def shut(self, error: BaseException) -> None:
        """Take nothing any more. Comes before the queue is shut: others take what is left in there."""
        self._over = error

    @property
    def wanted(self) -> bool:
        """Whether the user may want what has not ended; not if all of it was cancelled."""
        return any(job.sink.waits for job in self._jobs.values())

    def orphan(self, error: BaseException) -> None:
        """In a forked child: nothing will come here. Locks may be held by threads that are not here."""
        self._over = error
        for job in self._jobs.values():
            job.closed = True
            job.sink.orphan(error, [])
        for sink in self._subscribers.values():
            sink.orphan(error, [])
        self._jobs, self._subscribers, self._answers = {}, {}, {}

    def end(self, error: BaseException) -> None:
        """Nothing will come any more: tell everybody."""
        for job in list(self._jobs.values()):
            job.closed = True
            job.sink.fail(error)
        self._jobs.clear()
        for sink in list(self._subscribers.values()):
            sink.fail(error)
        self._subscribers.clear()
        for answer in self._answers.values():
            answer.set_exception(error)
        self._answers.clear()
