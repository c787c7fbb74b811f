"""Vectors: tasks of one job, in one attempt, that travel in one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from manyhands_shared.protocol.bounds import Groups, Sum
from manyhands_shared.protocol.messages.fields import (
    MAX_RUNNING,
    MAX_STACKS,
    U32,
    AnyBodies,
    AnyIndices,
    Attempt,
    Count,
    Figures,
    Id16,
    Index,
    JobId,
    Keys,
    Lines,
    Options,
    Reason,
    Seconds,
    Sizes,
    Slots,
    SomeIndices,
    StatusBytes,
    Switch,
    Tasks,
)
from manyhands_shared.protocol.record import record


@record
class Span:
    """Tasks of one job in one attempt. No indices at all means every task of the job."""

    job: JobId
    attempt: Attempt
    indices: AnyIndices


@record
class JobCount:
    """How many tasks of a job the broker has taken: all below `tasks`."""

    job: JobId
    tasks: Tasks


@record
class SubmitGroup:
    """Tasks `first`, `first + 1`, … of a job. `options` come with the job's first group."""

    SUM: ClassVar = Sum("first", "bodies")
    job: JobId
    function: Id16
    options: Options
    first: Index
    closed: Switch
    bodies: AnyBodies


@record
class AssignGroup:
    """Tasks for a node. `options` come with the job's first group on this link."""

    job: JobId
    attempt: Attempt
    function: Id16
    options: Options
    indices: SomeIndices
    bodies: AnyBodies


@record
class ResultGroup:
    """Tasks that ended. `seconds` is the time they took to run, all together."""

    job: JobId
    attempt: Attempt
    indices: SomeIndices
    statuses: StatusBytes
    bodies: AnyBodies
    seconds: Seconds

    def part(self, places: Sequence[int]) -> ResultGroup:
        """Return the tasks at these places, with the time that all of the group took."""
        return ResultGroup(
            self.job,
            self.attempt,
            [self.indices[place] for place in places],
            bytes(self.statuses[place] for place in places),
            [self.bodies[place] for place in places],
            self.seconds,
        )


@record
class InputGroup:
    """Tasks `first`, `first + 1`, … of a job refer to the same stored buffers.

    `keys` are their keys, one behind the other, and `sizes` the bytes under each.
    """

    SUM: ClassVar = Sum("first", "count")
    job: JobId
    first: Index
    count: Count
    keys: Keys
    sizes: Sizes


@record
class Dependency:
    """Task `index` of a job has the result of task `of_index` of another one, or its own, for an input.

    Several for one task are in the order of its inputs.
    """

    job: JobId
    index: Index
    of_job: JobId
    of_index: Index


@record
class JobStanding:
    """What a job was told. Its first `cancelled` tasks were cancelled; `age` is since its submission."""

    job: JobId
    age: Seconds
    paused: Switch
    cancelled: Tasks


@record
class TaskStanding:
    """What a task has behind it: further runs, and a line for each process that it ended.

    `attempt` is the last that these count.
    """

    job: JobId
    index: Index
    attempt: Attempt
    tries: U32
    story: Reason


@record
class RunGroup:
    """Runs of one job in one attempt: tasks that a slot ran one behind the other.

    `figures` has `RUN_FIGURES` numbers of each: its first task, how many, the slot. Then come the times,
    in microseconds: from its begin until the message was made, what it took, its CPU time. Then come the
    most memory that the slot's process has had by its end, in KiB, and the bytes of the results. Next is
    one more than the microseconds from its arrival at the node to its begin; 0: not known. Last come the
    bytes of the arguments, and how many of its tasks did not end well.
    """

    job: JobId
    attempt: Attempt
    figures: Figures


@record
class Stack:
    """What a task does: its process and slot, and its Python stacks as text, the latest call first.

    In a profile, `count` looks at tasks of the job found this stack; then `attempt`, `index`, `slot` and
    `pid` are 0.
    """

    job: JobId
    attempt: Attempt
    index: Index
    slot: Slots
    pid: U32
    count: U32
    text: Lines


JobCounts = Annotated[list[JobCount], Groups(JobCount)]
Spans = Annotated[list[Span], Groups(Span)]
SubmitGroups = Annotated[list[SubmitGroup], Groups(SubmitGroup)]
AssignGroups = Annotated[list[AssignGroup], Groups(AssignGroup)]
ResultGroups = Annotated[list[ResultGroup], Groups(ResultGroup)]
DependencyGroups = Annotated[list[Dependency], Groups(Dependency)]
InputGroups = Annotated[list[InputGroup], Groups(InputGroup)]
JobStandings = Annotated[list[JobStanding], Groups(JobStanding)]
TaskStandings = Annotated[list[TaskStanding], Groups(TaskStanding)]
RunGroups = Annotated[list[RunGroup], Groups(RunGroup)]
RunningGroups = Annotated[list[RunGroup], Groups(RunGroup, most=MAX_RUNNING)]
Stacks = Annotated[list[Stack], Groups(Stack, most=MAX_STACKS)]
