"""The messages of manyhands protocol 1, as `docs/protocol.md` specifies them.

Every message is a record whose fields are written in order as one msgpack array behind
the message's number. Vectors carry many tasks a message, grouped by job and attempt; within a group
the fields `indices`, `statuses` and `bodies` run in parallel. The annotation of each field says what it
may hold (`bounds`), which `wire` checks on the way in, at every peer.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from manyhands_shared.payloads.pickled import Payload
from manyhands_shared.protocol.bounds import (
    MAX_INDEX,
    MAX_TASKS,
    Bodies,
    Bytes,
    Flag,
    Float,
    Groups,
    Indices,
    Int,
    Map,
    Statuses,
    Sum,
    Text,
    Value,
)
from manyhands_shared.protocol.record import record
from manyhands_shared.protocol.status import Status as Status  # noqa: PLC0414 - re-exported

PROTOCOL_VERSION = 1
#: Characters of a sentence: an event's, a refusal's.
EVENT_CHARS = 4_096
#: Keys of stored buffers in one group.
MAX_KEYS = 16
#: The data of a reply to a query that the asker's key does not allow.
DENIED = "denied"

# What fields may hold. `wire.py` checks it, `docs/protocol.md` prints it.
U32 = Annotated[int, Int("u32", 0, (1 << 32) - 1)]
U64 = Annotated[int, Int("u64", 0, (1 << 64) - 1)]
#: A task's index in its job; how many tasks a job has.
Index = Annotated[int, Int("index", 0, MAX_INDEX)]
Tasks = Annotated[int, Int("tasks", 0, MAX_INDEX + 1)]
#: Far below what the broker's columns hold, for each new run has the next number.
Attempt = Annotated[int, Int("attempt", 0, (1 << 31) - 1)]
#: Numbers of messages, and sizes: what JavaScript and SQLite hold exactly too.
Seq = Annotated[int, Int("seq", 0, (1 << 53) - 1)]
Size = Annotated[int, Int("size", 0, (1 << 53) - 1)]
Slots = Annotated[int, Int("slots", 0, 65_536)]
Count = Annotated[int, Int("count", 0, MAX_TASKS)]
Port = Annotated[int, Int("port", 0, 65_535)]
Row = Annotated[int, Int("row", 0, 65_535)]
Seconds = Annotated[float, Float("seconds", 0, 1e10)]
#: Between two of what is done again and again.
Interval = Annotated[float, Float("interval", 1e-3, 1e7)]
#: A job's id; what refusals and questions are called; names, for people; sentences; output.
JobId = Annotated[str, Text(64, 1, word=True)]
Word = Annotated[str, Text(64)]
Name = Annotated[str, Text(200)]
Reason = Annotated[str, Text(EVENT_CHARS)]
Lines = Annotated[str, Text(65_536)]
Id16 = Annotated[bytes, Bytes("id16", 16)]
Key32 = Annotated[bytes, Bytes("key32", 32)]
Keys = Annotated[bytes, Bytes("keys", 16, most=MAX_KEYS)]
Switch = Annotated[bool, Flag()]
Info = Annotated[dict[str, Any], Map("info", 3, 512, 16_384)]
Options = Annotated[dict[str, Any] | None, Map("options", 2, 2_048, 262_144, optional=True)]
Arguments = Annotated[dict[str, Any], Map("arguments", 1, 16, 32_768)]
Details = Annotated[dict[str, Any], Map("details", 2, 64, 4_096)]
Data = Annotated[Any, Value(8)]
AnyIndices = Annotated[list[int], Indices()]
SomeIndices = Annotated[list[int], Indices("indices+", least=1)]
Sizes = Annotated[list[int], Indices("sizes", most=MAX_KEYS, distinct=False)]
StatusBytes = Annotated[bytes, Statuses(max(Status))]
AnyBodies = Annotated[list[Payload], Bodies()]
OneBody = Annotated[list[Payload], Bodies("body", 1, 1)]
#: A body, or nothing where it is gone.
MaybeBody = Annotated[list[Payload], Bodies("body?", 0, 1)]


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


JobCounts = Annotated[list[JobCount], Groups(JobCount)]
Spans = Annotated[list[Span], Groups(Span)]
SubmitGroups = Annotated[list[SubmitGroup], Groups(SubmitGroup)]
AssignGroups = Annotated[list[AssignGroup], Groups(AssignGroup)]
ResultGroups = Annotated[list[ResultGroup], Groups(ResultGroup)]
InputGroups = Annotated[list[InputGroup], Groups(InputGroup)]
JobStandings = Annotated[list[JobStanding], Groups(JobStanding)]
TaskStandings = Annotated[list[TaskStanding], Groups(TaskStanding)]


@record
class ClientHello:
    """Opens or resumes a session. `session` is the client's secret token."""

    NUMBER: ClassVar[int] = 1
    protocol: U32
    session: Id16
    name: Name
    last_seq: Seq
    limit: U32
    info: Info


@record
class WorkerHello:
    """Announces a node on a new link, with every attempt it still holds."""

    NUMBER: ClassVar[int] = 2
    protocol: U32
    node: Name
    boot_id: Id16
    slots: Slots
    window: Count
    holding: Spans
    info: Info


@record
class ClientWelcome:
    """The session is open. `resumed` is false if the broker did not know it."""

    NUMBER: ClassVar[int] = 3
    protocol: U32
    broker: Id16
    resumed: Switch
    window_tasks: Size
    window_bytes: Size
    ping_interval: Interval


@record
class WorkerWelcome:
    """The node is in. It keeps the attempts in `keep` and drops every other it holds."""

    NUMBER: ClassVar[int] = 4
    protocol: U32
    broker: Id16
    lease: Interval
    renew_interval: Interval
    beat_port: Port
    beat_row: Row
    beat_key: Key32
    beat_interval: Interval
    keep: Spans
    hash_seed: U32


@record
class Refused:
    """The broker will not serve this peer, or this request; for a person to read."""

    NUMBER: ClassVar[int] = 5
    code: Word
    reason: Reason


@record
class Who:
    """The broker does not know the sender: say hello (again)."""

    NUMBER: ClassVar[int] = 6
    broker: Id16


@record
class Bye:
    """The sender leaves for good."""

    NUMBER: ClassVar[int] = 7
    reason: Reason


@record
class Ping:
    """Answer with `Pong`."""

    NUMBER: ClassVar[int] = 8
    counter: U64


@record
class Pong:
    """The answer to `Ping`."""

    NUMBER: ClassVar[int] = 9
    counter: U64


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
class Assign:
    """Tasks for a node to run."""

    NUMBER: ClassVar[int] = 20
    groups: AssignGroups


@record
class Results:
    """Tasks that ended: node to broker, and broker to client. Kept until `Ack`."""

    NUMBER: ClassVar[int] = 21
    seq: Seq
    groups: ResultGroups


@record
class Ack:
    """Every `Results` message up to `seq` was taken."""

    NUMBER: ClassVar[int] = 22
    seq: Seq


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
class Given:
    """Results of the jobs that `job` comes after, one group list for each, before its first tasks."""

    NUMBER: ClassVar[int] = 26
    job: JobId
    results: ResultGroups


@record
class Attach:
    """Send this session the results of a durable job, those it has and those to come."""

    NUMBER: ClassVar[int] = 27
    job: JobId


@record
class Detach:
    """Send no more results of a durable job."""

    NUMBER: ClassVar[int] = 28
    job: JobId


@record
class Rejected:
    """The tasks of a submitted job from `first` on were not taken, and why."""

    NUMBER: ClassVar[int] = 29
    job: JobId
    first: Tasks
    reason: Reason


@record
class Throttle:
    """Hold back the results of a job that this session is attached to, or go on where that began."""

    NUMBER: ClassVar[int] = 30
    job: JobId
    hold: Switch


@record
class Standing:
    """What of attached jobs outlives the broker: it tells the client, which tells the next broker."""

    NUMBER: ClassVar[int] = 31
    jobs: JobStandings
    tasks: TaskStandings


@record
class Taken:
    """The client has the held results of these tasks: they are done, and need be held no more."""

    NUMBER: ClassVar[int] = 37
    spans: Spans


@record
class Relay:
    """The client cannot fetch the held results of these tasks: send them through the broker."""

    NUMBER: ClassVar[int] = 38
    spans: Spans


@record
class Renew:
    """Extends the node's lease. `window` is how many tasks it will hold at once (0: none new)."""

    NUMBER: ClassVar[int] = 32
    counter: U64
    slots: Slots
    window: Count


@record
class Lease:
    """The lease is extended, from the sending of the `Renew` with this counter."""

    NUMBER: ClassVar[int] = 33
    counter: U64


@record
class Event:
    """Something that people should know of: a child died, a heartbeat process was restarted."""

    NUMBER: ClassVar[int] = 34
    kind: Word
    text: Reason
    details: Details


@record
class Drain:
    """Take nothing new, finish or give back what there is, say `Bye`."""

    NUMBER: ClassVar[int] = 35
    reason: Reason


@record
class Output:
    """What a task printed, for the log of its durable job."""

    NUMBER: ClassVar[int] = 36
    job: JobId
    attempt: Attempt
    index: Index
    text: Lines


@record
class Want:
    """A node needs stored buffers, which belong to the session that is publicly called `owner`."""

    NUMBER: ClassVar[int] = 39
    key: Id16
    owner: Id16


@record
class Unheard:
    """A node waits too long for values of the session that is publicly called `owner`.

    It gives the tasks back that need them.
    """

    NUMBER: ClassVar[int] = 44
    owner: Id16


@record
class Stock:
    """Stored buffers, one body with all of them; without a body they are not to be had (any more)."""

    NUMBER: ClassVar[int] = 40
    key: Id16
    bodies: MaybeBody


@record
class Pull:
    """A client asks a node, on the socket for that, for `size` bytes of a held result, from `at` on."""

    NUMBER: ClassVar[int] = 41
    key: Id16
    at: Size
    size: U32


@record
class Part:
    """The answer to a `Pull`: one body; without a body it is not to be had (any more)."""

    NUMBER: ClassVar[int] = 42
    key: Id16
    at: Size
    bodies: MaybeBody


@record
class Inputs:
    """What tasks of the next `Submit` refer to. It only helps to place them well."""

    NUMBER: ClassVar[int] = 43
    groups: InputGroups


@record
class Query:
    """A question or an order; see the page on the protocol for each `what`."""

    NUMBER: ClassVar[int] = 48
    request: U64
    what: Word
    arguments: Arguments


@record
class Reply:
    """The answer to a `Query`. `error` is empty if it went well.

    If the asker's key does not allow it, `data` is `DENIED`.
    """

    NUMBER: ClassVar[int] = 49
    request: U64
    error: Reason
    data: Data


Message = (
    ClientHello
    | WorkerHello
    | ClientWelcome
    | WorkerWelcome
    | Refused
    | Who
    | Bye
    | Ping
    | Pong
    | Function
    | Need
    | Submit
    | Accepted
    | Assign
    | Results
    | Ack
    | Cancel
    | Recall
    | Returned
    | Given
    | Attach
    | Detach
    | Rejected
    | Throttle
    | Standing
    | Taken
    | Relay
    | Renew
    | Lease
    | Event
    | Drain
    | Output
    | Want
    | Unheard
    | Stock
    | Pull
    | Part
    | Inputs
    | Query
    | Reply
)
