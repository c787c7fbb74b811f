"""What a job was told and what its tasks have behind them, beyond the broker's restart.

The journal has it of durable jobs. Of an attached job its client has it. The broker tells the client
whenever it changes, and all of it again over a new link. The client gives it back when it submits the
job to another broker.
"""

from __future__ import annotations

from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.session import Session
from manyhands_broker.core.state.scheduler_state import SchedulerState
from manyhands_shared.protocol.messages import JobStanding, Standing, TaskStanding

#: Tasks in one message.
MESSAGE_TASKS = 4_096
#: Jobs to come and tasks of them, all together, that a session may say something about; a story counts
#: for more the longer it is.
MOST_PARTS = 1 << 18
_PART_CHARS = 64
#: Characters of the story of one task.
MAX_STORY = 4_096


class Standings:
    """Tells clients, and takes from them what another broker had told."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def tell(self, job: Job, cancelled: int = 0) -> None:
        """Tell the client that a job was paused or resumed, or its first `cancelled` tasks cancelled."""
        if not job.options.durable:
            self._state.send(job.session.peer, Standing([self._of_job(job, cancelled)], []))

    def report(self) -> None:
        """Tell of the tasks that were given another run since the last drain."""
        state = self._state
        while state.tried_tasks:
            session, changed = state.tried_tasks.popitem()
            tasks = [
                _of_task(job, index)
                for job, index in changed
                if index in job.tries or index in job.blames
            ]
            self._send(session, [], tasks)

    def all(self, session: Session) -> None:
        """Tell a session that is back all of it again: the last news may be lost with the old link."""
        jobs: list[JobStanding] = []
        tasks: list[TaskStanding] = []
        for job in session.jobs.values():
            if job.paused or job.tries or job.blames:
                jobs.append(self._of_job(job, 0))
                tasks += [_of_task(job, index) for index in {**job.tries, **job.blames}]
        self._send(session, jobs, tasks)

    def take(self, session: Session, message: Standing) -> None:
        """Note what jobs have behind them that a client is about to submit."""
        for told in message.jobs:
            self._drop(session, told.job)
            if session.standing_parts < MOST_PARTS:
                session.standings[told.job] = (told, [])
                session.standing_parts += 1
        for task in message.tasks:
            known = session.standings.get(task.job)
            if known is not None and session.standing_parts < MOST_PARTS:
                known[1].append(task)
                session.standing_parts += _parts(task)

    def apply(self, session: Session, job: Job, now: float) -> None:
        """Have a job that is submitted go on as the client says it was."""
        told = self._drop(session, job.id)
        if told is None or job.options.durable:
            return
        standing, tasks = told
        job.submitted = now - standing.age
        job.paused = standing.paused
        for task in tasks:
            job.counted[task.index] = task.attempt
            if task.tries:
                job.tries[task.index] = task.tries
            if task.story:
                job.blames[task.index] = task.story.split("\n")
                job.tell(*(f"task {task.index}: {line}" for line in job.blames[task.index]))

    def _drop(self, session: Session, job_id: str) -> tuple[JobStanding, list[TaskStanding]] | None:
        told = session.standings.pop(job_id, None)
        if told is not None:
            session.standing_parts -= 1 + sum(map(_parts, told[1]))
        return told

    def _of_job(self, job: Job, cancelled: int) -> JobStanding:
        age = max(0.0, self._state.now - job.submitted)
        return JobStanding(job.id, age, job.paused, cancelled)

    def _send(self, session: Session, jobs: list[JobStanding], tasks: list[TaskStanding]) -> None:
        if jobs:
            self._state.send(session.peer, Standing(jobs, []))
        for start in range(0, len(tasks), MESSAGE_TASKS):
            self._state.send(session.peer, Standing([], tasks[start : start + MESSAGE_TASKS]))


def _of_task(job: Job, index: int) -> TaskStanding:
    """Return one line for each process that the task has ended, however short."""
    story = [" ".join(line.split()) for line in job.blames.get(index, ())]
    if sum(map(len, story)) + len(story) > MAX_STORY:
        most = max(1, MAX_STORY // len(story) - 1)
        story = [line[:most] for line in story]
    text = "\n".join(story)[:MAX_STORY]
    return TaskStanding(job.id, index, job.counted.get(index, 0), job.tries.get(index, 0), text)


def _parts(task: TaskStanding) -> int:
    return 1 + len(task.story) // _PART_CHARS
