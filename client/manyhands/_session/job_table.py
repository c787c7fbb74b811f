"""The jobs of a session and their functions, what of them is still to be sent, and the totals.

Knows nothing of links, sequence numbers or time; `Session` asks it what to send.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from manyhands._session.effects import Deliver
from manyhands._session.inputs.input_refs import inputs_of
from manyhands._session.inputs.send_order import count_free, first_free
from manyhands._session.inputs.task_results import TaskResults
from manyhands._session.job import SessionJob
from manyhands._session.job_history import JobHistory
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.failure import SUBMIT_REJECTED, Failure
from manyhands_shared.protocol.messages import (
    Dependency,
    Function,
    InputGroup,
    JobCount,
    ResultGroup,
    Span,
    Standing,
    Status,
    SubmitGroup,
)

#: One `Submit` carries up to this many tasks and, beyond its first task, bytes.
MESSAGE_TASKS = 4096
MESSAGE_BYTES = 4 << 20
#: And with this number of inputs it is full.
MESSAGE_DEPENDENCIES = 32_768
_LOST = Failure(
    "manyhands.TaskLost",
    "the broker was restarted, and this task, which may have run, must not run twice",
).encode()


class JobTable:
    """All jobs of a session. Bytes are those of the tasks' arguments."""

    def __init__(self) -> None:
        #: Tasks that have not ended.
        self.unended_tasks = 0
        self.unended_bytes = 0
        #: Those of them that are not sent.
        self.unsent_tasks = 0
        self.unsent_bytes = 0
        #: How much of what has not ended may be at the broker.
        self.window_tasks = 1
        self.window_bytes = 1
        #: What the tasks of the last message's worth refer to.
        self.inputs: list[InputGroup] = []
        #: Results of tasks that others have for inputs; and which tasks of the last message have which.
        self.results = TaskResults()
        self.dependencies: list[Dependency] = []
        #: What an earlier broker has told of jobs that are new to this one.
        self.standings: list[Standing] = []
        #: Jobs that have finished, until the session takes them off.
        self.finished: list[str] = []
        self._jobs: dict[str, SessionJob] = {}
        self._ready: deque[SessionJob] = deque()
        self._functions: dict[bytes, Function] = {}
        self._users: Counter[bytes] = Counter()  # jobs of each function
        self._told: set[bytes] = set()  # functions that the broker was sent

    # What the user does -------------------------------------------------------------------------

    def add(
        self,
        job_id: str,
        functions: list[Function],
        options: dict[str, Any],
        *,
        subscribed: bool = False,
    ) -> None:
        """Add an open job with its function, and what else the broker must have for it.

        `subscribed`: its results come by a subscription.

        Raises:
            ValueError: there is a job of that id.
        """
        if job_id in self._jobs:
            raise ValueError(f"job {job_id!r} exists")
        digests = list(dict.fromkeys(function.digest for function in functions))
        for function in functions:
            self._functions.setdefault(function.digest, function)
        self._users.update(digests)
        self._jobs[job_id] = SessionJob(job_id, digests, options, subscribed=subscribed)

    def append(self, job_id: str, bodies: list[Payload]) -> tuple[int, Deliver | None]:
        """Add tasks of an open job; return the first one's number.

        Return also their end, if the broker has turned the job down.
        """
        job = self._jobs[job_id]
        first = job.next
        if job.refusal is not None:
            job.next += len(bodies)
            return first, _refused(job, list(range(first, job.next)), job.refusal)
        size = job.append(bodies)
        self.results.appended(job, first, bodies)
        self.unended_tasks += len(bodies)
        self.unsent_tasks += len(bodies)
        self.unended_bytes += size
        self.unsent_bytes += size
        self._settle(job)
        return first, None

    def close(self, job_id: str) -> None:
        """The job gets no more tasks."""
        job = self._jobs.get(job_id)
        if job is not None and not job.closed:
            job.closed = True
            self._settle(job)

    def cancel(self, job_id: str, indices: list[int] | None) -> tuple[list[Deliver], list[Span]]:
        """Cancel tasks, or with `None` the job; what ends at once, and what the broker must end."""
        job = self._jobs.get(job_id)
        if job is None:
            return [], []
        ended: list[Deliver] = []
        if indices is None:
            job.closed = job.doomed = True
            unsent = job.take_unsent()
            if unsent:
                here = self._end_here(job, unsent)
                if not job.reported:
                    ended.append(here)
            job.cancelled.update(job.bodies)
        else:
            indices = [index for index in indices if index in job.bodies]
            job.cancelled.update(indices)
            self._blank(job, indices)
        spans = self._cancellations(job, job.cancelled if indices is None else indices)
        self._settle(job)
        return ended, spans

    def report(self, job_id: str) -> None:
        """Tell no more of a job whose subscription has finished, should the broker refuse it yet."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.reported = True

    # What the broker says -----------------------------------------------------------------------

    def function(self, digest: bytes) -> Function | None:
        """The function that the broker asks for."""
        return self._functions.get(digest)

    def is_durable(self, job_id: str) -> bool:
        """Whether a job in the table is durable."""
        job = self._jobs.get(job_id)
        return job is not None and job.durable

    def knows(self, job_id: str) -> bool:
        """Whether something of a job is in the table."""
        return job_id in self._jobs

    def is_closed(self, job_id: str) -> bool:
        """Whether a job gets no more tasks."""
        job = self._jobs.get(job_id)
        return job is None or job.closed

    def opened(self, job_id: str) -> bool:
        """Whether the broker has been told of a job so that it knows it, or has a journal that does."""
        job = self._jobs.get(job_id)
        return job is None or job.opened or job.taken > 0

    def journaled(self, job_id: str) -> list[int]:
        """The tasks of a durable job here that are not: some broker's journal had them."""
        job = self._jobs[job_id]
        return [index for index in range(job.next) if index not in job.bodies]

    def has(self, job_id: str, index: int) -> bool:
        """Whether a task is in the table: it has not ended, and no journal has it."""
        job = self._jobs.get(job_id)
        return job is not None and index in job.bodies

    def want(self, spans: list[Span]) -> None:
        """The broker lacks these results, which tasks have for inputs."""
        tasks = ((span.job, index) for span in spans for index in span.indices)
        self.results.want(spans, [task for task in tasks if self.has(*task)])

    def confirm(self, counts: Iterable[JobCount]) -> list[str]:
        """The broker has that many tasks of each of these jobs.

        Returns the closed durable jobs that it now has as a whole.
        """
        whole = []
        for count in counts:
            job = self._jobs.get(count.job)
            if job is None:
                continue
            job.confirm(count.tasks)
            if job.durable:
                job.awaited = max(0, job.awaited - 1)
                self._strike(job, job.journaled())
                self._settle(job)
                if job.over:
                    whole.append(job.id)
        return whole

    def reject(self, job_id: str, first: int, reason: str) -> Deliver | None:
        """The broker takes no tasks of a job from `first` on; `None` if there are none."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        refused = sorted(index for index in job.bodies if index >= first)
        told = job.reported
        if job.refusal is None:
            job.refusal = Failure(SUBMIT_REJECTED, reason).encode()
            # What the broker did take is a job still, and is to be closed.
            job.opened, job.expected, job.close_sent = True, first, False
        if not first:
            job.opened = job.said = False
            job.taken = 0
        self._strike(job, refused)
        ended = _refused(job, refused, job.refusal)
        self.results.note(ended)
        self._settle(job)
        return ended if refused and not told else None

    def end(self, group: ResultGroup) -> Deliver | None:
        """Strike off tasks that have ended; `None` if all of them had ended before."""
        job = self._jobs.get(group.job)
        if job is None or job.durable or not group.indices:
            return None
        indices, statuses, bodies = group.indices, group.statuses, group.bodies
        if job.runs and max(indices) >= job.runs[0][0]:
            # A broker that resumed the session may end what waits here to be submitted again.
            dropped = job.drop_runs(indices)
            self.unsent_tasks -= len(dropped)
            self.unsent_bytes -= total(dropped)
        pop = job.bodies.pop
        popped = [pop(index, None) for index in indices]
        if None in popped:
            fresh = [place for place, body in enumerate(popped) if body is not None]
            indices = [indices[place] for place in fresh]
            statuses = bytes(statuses[place] for place in fresh)
            bodies = [bodies[place] for place in fresh]
        if not indices:
            return None
        self.unended_tasks -= len(indices)
        self.unended_bytes -= total([body for body in popped if body is not None])
        job.confirm(max(indices) + 1)
        if job.blanks:  # the broker got no arguments for these, so whatever it says, it is this
            statuses = bytes(
                Status.CANCELLED if index in job.blanks else status
                for index, status in zip(indices, statuses, strict=True)
            )
        if job.cancelled:
            job.cancelled.difference_update(indices)
            job.blanks.difference_update(indices)
        if job.history is not None and job.history.tasks:
            job.history.ended(indices)
        if job.inputs:
            self._release(job, indices)
        self._settle(job)
        return Deliver(job.id, indices, statuses, bodies)

    def stand(self, message: Standing) -> None:
        """Keep what the broker tells of jobs, for the next broker."""
        for told in message.jobs:
            job = self._jobs.get(told.job)
            if job is not None and job.history is not None:
                job.history.paused = told.paused
                sent = job.sent() if told.cancelled else ()
                job.cancelled.update(index for index in sent if index < told.cancelled)
        for task in message.tasks:
            job = self._jobs.get(task.job)
            if job is not None and job.history is not None and task.index in job.bodies:
                job.history.tasks[task.index] = task

    def rewind(self, *, resumed: bool) -> tuple[list[Deliver], list[Span]]:
        """After a welcome: what the broker may lack is to be sent again, cancellations too."""
        # What was told last may be lost with the link, and tasks must not arrive without their function.
        self._told.clear()
        self.results.welcomed()
        ended: list[Deliver] = []
        spans: list[Span] = []
        for job in list(self._jobs.values()):
            if job.at_most_once and not resumed:
                lost = [index for index in job.sent() if index not in job.cancelled]
                if lost:
                    self._strike(job, lost)
                    count = len(lost)
                    statuses = bytes([Status.LOST]) * count
                    ended.append(Deliver(job.id, lost, statuses, [_LOST] * count))
                    self.results.note(ended[-1])
            tasks, size = job.unsent_tasks(), job.unsent_bytes()
            job.rewind(resumed=resumed)
            self.unsent_tasks += job.unsent_tasks() - tasks
            self.unsent_bytes += job.unsent_bytes() - size
            if resumed or job.durable:
                self._blank(job, job.cancelled)
                spans += self._cancellations(job, job.cancelled)
            elif job.cancelled:  # a broker that does not know of them need not hear of them now
                doomed = sorted(job.cancelled)
                job.drop_runs(doomed)
                ended.append(self._end_here(job, doomed))
            self._settle(job)
        return ended, spans

    # Sending ------------------------------------------------------------------------------------

    @property
    def sendable(self) -> bool:
        """Whether there is something to send that the window has room for."""
        job = first_free(self._ready, self._jobs)
        if job is None:
            return False
        if not job.runs:
            return True  # a job's mere closing needs no room
        if self.unended_tasks - self.unsent_tasks >= self.window_tasks:
            return False
        there = self.unended_bytes - self.unsent_bytes
        return there == 0 or there + job.next_size() <= self.window_bytes

    @property
    def is_full(self) -> bool:
        """Whether only the window keeps tasks here."""
        return first_free(self._ready, self._jobs) is not None and not self.sendable

    def lone_group(self, job_id: str, index: int | None, body: Payload) -> SubmitGroup | None:
        """What `next_submit` gives if this task is appended now, and nothing happens before.

        `index` is the number that the task will have; None: the next. None is given if there is, or may
        be, more to send. Changes nothing.
        """
        job = self._jobs.get(job_id)
        if (
            job is None
            or self._ready
            or not (job.sends_alone and self._told.issuperset(job.functions))
        ):
            return None
        first = job.next if index is None else index
        return SubmitGroup(job_id, job.function, None, first, False, [body])

    def next_submit(self, now: float) -> tuple[list[Function], list[SubmitGroup], list[Span]]:
        """Take the next message's worth: functions to send first, groups, and what to cancel then.

        Jobs take turns, so that a long one does not keep a short one waiting.
        """
        functions: list[Function] = []
        groups: list[SubmitGroup] = []
        durable: set[str] = set()
        doomed: list[Span] = []
        self.inputs, self.standings, self.dependencies = [], [], []
        tasks, size = 0, 0
        while self.sendable and tasks < MESSAGE_TASKS and size < MESSAGE_BYTES:
            if len(self.dependencies) > MESSAGE_DEPENDENCIES:
                break
            job = first_free(self._ready, self._jobs)
            assert job is not None, "sendable"
            self._ready.remove(job)
            job.queued = False
            free_tasks = self.window_tasks - (self.unended_tasks - self.unsent_tasks)
            free_bytes = self.window_bytes - (self.unended_bytes - self.unsent_bytes)
            group, group_size = job.next_group(
                count_free(job, self._jobs, min(MESSAGE_TASKS - tasks, free_tasks)),
                min(MESSAGE_BYTES - size, free_bytes),
            )
            self.unsent_tasks -= len(group.bodies)
            self.unsent_bytes -= group_size
            tasks += len(group.bodies)
            size += group_size
            groups.append(group)
            if group.options is not None and not job.durable:
                if job.history is None:
                    job.history = JobHistory(now)
                else:
                    self.standings += job.history.messages(job.id, now)
            if job.stores:
                self.inputs += inputs_of(group)
            if job.inputs:
                self.dependencies += job.dependencies(group)
            if job.durable and job.id not in durable:
                durable.add(job.id)
                job.awaited += 1
            untold = [digest for digest in job.functions if digest not in self._told]
            self._told.update(untold)
            # Without a body, it is one that the broker has had from another client.
            functions += filter(attrgetter("bodies"), map(self._functions.__getitem__, untold))
            doomed += job.spans(job.blanks_in(group))
            self._settle(job)
        return functions, groups, doomed

    # In the table -------------------------------------------------------------------------------

    def _strike(self, job: SessionJob, indices: list[int]) -> None:
        """Strike off tasks, sent or not."""
        if job.runs and indices and indices[-1] >= job.runs[0][0]:
            dropped = job.drop_runs(indices)
            self.unsent_tasks -= len(dropped)
            self.unsent_bytes -= total(dropped)
        self.unended_tasks -= len(indices)
        self.unended_bytes -= total(list(map(job.bodies.pop, indices)))
        if job.cancelled:
            job.cancelled.difference_update(indices)
            job.blanks.difference_update(indices)
        if job.inputs:
            self._release(job, indices)

    def _release(self, job: SessionJob, indices: Iterable[int]) -> None:
        """These tasks have ended, and need no inputs any more."""
        for index in indices:
            self.results.release(job.inputs.pop(index, ()))

    def _end_here(self, job: SessionJob, unsent: list[int]) -> Deliver:
        """End cancelled tasks that the broker does not have."""
        size = total(list(map(job.bodies.pop, unsent)))
        job.cancelled.difference_update(unsent)
        job.blanks.difference_update(unsent)
        self.unended_tasks -= len(unsent)
        self.unsent_tasks -= len(unsent)
        self.unended_bytes -= size
        self.unsent_bytes -= size
        if job.inputs:
            self._release(job, unsent)
        count = len(unsent)
        ended = Deliver(job.id, unsent, bytes([Status.CANCELLED]) * count, [b""] * count)
        self.results.note(ended)
        return ended

    def _blank(self, job: SessionJob, indices: Iterable[int]) -> None:
        freed = job.blank(indices, self.results.needed)
        self.unended_bytes -= freed
        self.unsent_bytes -= freed

    def _cancellations(self, job: SessionJob, indices: Iterable[int]) -> list[Span]:
        """What to tell the broker. A span without indices would mean the whole job: never by chance."""
        if not job.said:
            return []
        if job.doomed:
            return [Span(job.id, 0, [])]
        return job.spans(index for index in indices if index not in job.blanks)

    def _settle(self, job: SessionJob) -> None:
        """Put the job in line if it has something to send; forget it if it is over.

        What has nothing to send any more leaves the line once it stands first.
        """
        if job.finished and not job.reported:
            job.reported = True
            self.finished.append(job.id)
        if job.over:
            if job.queued:
                job.queued = False
                self._ready.remove(job)
            del self._jobs[job.id]
            for digest in job.functions:
                self._users[digest] -= 1
                if not self._users[digest]:
                    del self._users[digest], self._functions[digest]
                    self._told.discard(digest)
        elif job.has_work and not job.queued:
            job.queued = True
            self._ready.append(job)
        while self._ready and not self._ready[0].has_work:
            self._ready.popleft().queued = False

    def validate(self) -> None:
        """Check every invariant; `AssertionError` names the one that does not hold."""
        jobs = self._jobs.values()
        for job in jobs:
            job.validate()
            assert not job.over, f"{job.id}: is over and still here"
            assert job.queued or not job.has_work, f"{job.id}: has work to send, not in line"
        assert self.unended_tasks == sum(len(job.bodies) for job in jobs), "unended tasks"
        assert self.unended_bytes == sum(total(job.bodies.values()) for job in jobs), (
            "unended bytes"
        )
        assert self.unsent_tasks == sum(job.unsent_tasks() for job in jobs), "unsent tasks"
        assert self.unsent_bytes == sum(job.unsent_bytes() for job in jobs), "unsent bytes"
        in_line = [job for job in jobs if job.queued]
        assert {job.id for job in self._ready} == {job.id for job in in_line}, "the line"
        assert len(self._ready) == len(in_line), "a job stands in line twice"
        assert not self._ready or self._ready[0].has_work, "the first in line has nothing to send"
        self.results.validate()
        inputs = Counter(task for job in jobs for tasks in job.inputs.values() for task in tasks)
        assert inputs == self.results.needed, "who needs which results"
        users = Counter(digest for job in jobs for digest in job.functions)
        assert users == self._users, "users of functions"
        assert self._users.keys() == self._functions.keys(), "a function without a job"
        assert self._told <= self._functions.keys(), "told of a function that is gone"


def _refused(job: SessionJob, indices: list[int], body: Payload) -> Deliver:
    """The end of tasks that the broker did not take."""
    return Deliver(job.id, indices, bytes([Status.RAISED]) * len(indices), [body] * len(indices))
