"""Functions and tasks: from the client to a node, and back."""

from __future__ import annotations

from typing import ClassVar

from manyhands_shared.protocol.messages.fields import (
    Count,
    Id16,
    JobId,
    Keys,
    Name,
    OneBody,
    Reason,
    Size,
    Tasks,
)
from manyhands_shared.protocol.messages.groups import (
    AssignGroups,
    DependencyGroups,
    JobCounts,
    JobStandings,
    ResultGroups,
    Spans,
    SubmitGroups,
    TaskStandings,
)
from manyhands_shared.protocol.record import record


@record
class Function:
    """A function by its digest: BLAKE2b, 16 bytes, of its one body."""

    NUMBER: ClassVar[int] = 16
    digest: Id16
    name: Name
    bodies: OneBody


@record
class Need:
    """The sender was given tasks of a function that it does not have."""

    NUMBER: ClassVar[int] = 17
    digest: Id16


@record
class Submit:
    """New tasks, or the same ones again after a lost link."""

    NUMBER: ClassVar[int] = 18
    groups: SubmitGroups


@record
class Accepted:
    """Tasks that the broker has taken, and the session's present window."""

    NUMBER: ClassVar[int] = 19
    jobs: JobCounts
    window_tasks: Size
    window_bytes: Size


@record
class Rejected:
    """The tasks of a submitted job from `first` on were not taken, and why."""

    NUMBER: ClassVar[int] = 29
    job: JobId
    first: Tasks
    reason: Reason


@record
class Assign:
    """Tasks for a node to run."""

    NUMBER: ClassVar[int] = 20
    groups: AssignGroups


@record
class Given:
    """Results of the jobs that `job` comes after, one group list for each, before its first tasks."""

    NUMBER: ClassVar[int] = 26
    job: JobId
    results: ResultGroups


@record
class JobsOver:
    """These jobs are over: no task of them follows. The spans name no tasks."""

    NUMBER: ClassVar[int] = 54
    spans: Spans


@record
class Cancel:
    """End these tasks: from a client (attempt 0, any), and on to the nodes that hold them."""

    NUMBER: ClassVar[int] = 23
    spans: Spans


@record
class Recall:
    """Give back up to `count` tasks that no slot has started."""

    NUMBER: ClassVar[int] = 24
    count: Count


@record
class Returned:
    """Tasks that the node gives back unstarted."""

    NUMBER: ClassVar[int] = 25
    spans: Spans


@record
class Making:
    """The environments that the node makes just now, and those that it could not make lately.

    Both are the digests of their requirements.
    """

    NUMBER: ClassVar[int] = 53
    environments: Keys
    failed: Keys


@record
class Standing:
    """What of attached jobs outlives the broker: it tells the client, which tells the next broker."""

    NUMBER: ClassVar[int] = 31
    jobs: JobStandings
    tasks: TaskStandings


@record
class Dependencies:
    """Which tasks of the next `Submit` wait for which; they run with the results of those."""

    NUMBER: ClassVar[int] = 50
    dependencies: DependencyGroups


@record
class WantResults:
    """Tasks wait for the results of these, which have ended: the broker does not have them any more."""

    NUMBER: ClassVar[int] = 51
    spans: Spans


@record
class KnownResults:
    """Results that the client has of tasks that others wait for, as the broker wants them."""

    NUMBER: ClassVar[int] = 52
    groups: ResultGroups
