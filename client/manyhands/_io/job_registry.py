"""What users have open on a session: jobs, watched jobs, questions. All for the I/O thread.

What they want becomes events of the session core; what the core says of jobs goes to their sinks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import count, groupby
from operator import itemgetter
from typing import Any

from manyhands._io.open_job import OpenJob, Sink
from manyhands._io.transfers import Transfers
from manyhands._session.effects import Answered, Deliver
from manyhands._session.events import (
    AddJob,
    Append,
    Ask,
    CancelTasks,
    CloseJob,
    Event,
    HoldBack,
    Unwatch,
    Watch,
)
from manyhands_shared.errors import (
    ConfigError,
    NotAuthorised,
    Refused,
    SubmitRejected,
    TaskLost,
)
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import DENIED, Query


class Jobs:
    """See the module.

    Args:
        transfers: knows what nodes must know of the session.
        handle: takes events of the session core.
    """

    def __init__(self, transfers: Transfers, handle: Callable[[Event], None]) -> None:
        self._transfers = transfers
        self._handle = handle
        self._jobs: dict[str, OpenJob] = {}
        self._watchers: dict[str, Sink] = {}
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
                _, tasks, payloads = zip(*group, strict=True)
                if job.closed:
                    job.sink.reject(tasks, payloads)
                    continue
                job.sink.accept(job.next, tasks)
                job.next += len(payloads)
                job.unfinished += len(payloads)
                self._handle(Append(job.id, list(payloads)))

    def open(self, job: OpenJob) -> None:
        """Begin a job."""
        if self._over is not None:
            job.closed = True
            job.sink.fail(self._over)
            return
        self._jobs[job.id] = job
        if job.kept is not None:
            job.unfinished = 1  # until the journal has it
        options = self._transfers.options(job.options)
        self._handle(AddJob(job.id, job.function, options, watch=job.kept is None))

    def close(self, job: OpenJob) -> None:
        """The job gets no more tasks."""
        if not job.closed:
            job.closed = True
            self._handle(CloseJob(job.id))
            self._forget(job)

    def cancel(self, job: OpenJob, find: Callable[[], list[int]] | None) -> None:
        """Cancel a job, or those of its tasks that `find` names."""
        if job.id not in self._jobs:
            return
        if find is None:
            job.closed = job.cancelled = True
            self._handle(CancelTasks(job.id, None))
            if job.kept is not None:
                self._let_go(job)
            else:
                self._forget(job)
        else:
            indices = find()
            if indices:
                self._handle(CancelTasks(job.id, indices))

    def watch(self, job_id: str, sink: Sink) -> None:
        """Have every result of a durable job delivered to `sink`, and to no other one any more."""
        if self._over is not None:
            sink.fail(self._over)
            return
        self.unwatch(job_id, self._watchers.get(job_id))
        self._watchers[job_id] = sink
        self._handle(Watch(job_id))

    def unwatch(self, job_id: str, sink: Sink | None) -> None:
        """No more of that, if it is still this sink that watches."""
        if sink is not None and self._watchers.get(job_id) is sink:
            del self._watchers[job_id]
            self._handle(Unwatch(job_id))

    def hold_back(self, job_id: str, sink: Sink, *, hold: bool) -> None:
        """Leave results that `sink` watches with the broker, or go on where that began."""
        if self._watchers.get(job_id) is sink:
            self._handle(HoldBack(job_id, hold))

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

    def deliver(self, ended: Deliver) -> None:
        """Tasks have ended."""
        job = self._jobs.get(ended.job)
        if job is not None:
            job.unfinished -= len(ended.indices)
            job.sink.deliver(ended.indices, ended.statuses, ended.bodies)
            self._forget(job)
        elif ended.job in self._watchers:
            self._watchers[ended.job].deliver(ended.indices, ended.statuses, ended.bodies)

    def kept(self, job_id: str) -> None:
        """The journal has a job as a whole."""
        job = self._jobs.get(job_id)
        if job is not None and job.kept is not None:
            self._let_go(job)
            job.kept()

    def turned(self, job_id: str, reason: str) -> None:
        """The broker takes no more tasks of a job."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        if job.kept is not None:
            job.sink.fail(SubmitRejected(reason))
            job.unfinished = 0
        self.close(job)  # what comes now goes into another one, which may be taken
        self._forget(job)

    def vanished(self, job_id: str) -> None:
        """The broker has nothing of a job: what has not come of it never will."""
        error = TaskLost(
            f"the broker has no job {job_id}: forgotten, or lost with a broker that had no journal"
        )
        watcher = self._watchers.pop(job_id, None)
        if watcher is not None:
            watcher.fail(error)
        job = self._jobs.get(job_id)
        if job is not None:
            job.sink.fail(error)
            self._let_go(job)

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
        """Take nothing any more. Comes before the intake is shut: others take what is left in there."""
        self._over = error

    @property
    def wanted(self) -> bool:
        """Whether somebody may want what has not ended; not if all of it was cancelled."""
        return any(job.unfinished and job.sink.waits for job in self._jobs.values())

    def orphan(self, error: BaseException) -> None:
        """In a forked child: nothing will come here. Locks may be held by threads that are not here."""
        self._over = error
        for job in self._jobs.values():
            job.closed = True
            job.sink.orphan(error, [])
        for sink in self._watchers.values():
            sink.orphan(error, [])
        self._jobs, self._watchers, self._answers = {}, {}, {}

    def end(self, error: BaseException) -> None:
        """Nothing will come any more: tell everybody."""
        for job in list(self._jobs.values()):
            job.closed = True
            job.sink.fail(error)
        self._jobs.clear()
        for sink in list(self._watchers.values()):
            sink.fail(error)
        self._watchers.clear()
        for answer in self._answers.values():
            answer.set_exception(error)
        self._answers.clear()

    def _forget(self, job: OpenJob) -> None:
        if job.closed and not job.unfinished and self._jobs.pop(job.id, None) is not None:
            self._handle(Unwatch(job.id))
            # A caller that still queues a task has the sink. The two together are large garbage, if the
            # function is, which would lie there until the collector comes.
            job.sink = weakref.proxy(job.sink)

    def _let_go(self, job: OpenJob) -> None:
        """Of a job of which nothing more comes here."""
        job.unfinished = 0
        self._forget(job)
