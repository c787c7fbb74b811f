"""The messages of manyhands protocol 1, as `docs/protocol.md` specifies them.

Every message is a record whose fields are written in order as one msgpack array behind
the message's number. Vectors carry many tasks a message, grouped by job and attempt; within a group
the fields `indices`, `statuses` and `bodies` run in parallel. Annotations are the wire types that
`wire` checks on the way in.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from manyhands_shared.record import record
from manyhands_shared.serial import Payload
from manyhands_shared.status import Status as Status  # noqa: PLC0414 - re-exported

PROTOCOL_VERSION = 1
#: The data of a reply to a query that the asker's key does not allow.
DENIED = "denied"

# Wire types. `wire.py` gives each its check.
U32 = Annotated[int, "u32"]
U64 = Annotated[int, "u64"]
Seconds = Annotated[float, "seconds"]
Text = Annotated[str, "text"]
Id16 = Annotated[bytes, "id16"]
Key32 = Annotated[bytes, "key32"]
Keys = Annotated[bytes, "keys"]
Flag = Annotated[bool, "flag"]
Map = Annotated[dict[str, Any], "map"]
Value = Annotated[Any, "value"]
Indices = Annotated[list[int], "indices"]
Statuses = Annotated[bytes, "statuses"]
Bodies = Annotated[list[Payload], "bodies"]
OptionalMap = Annotated[dict[str, Any] | None, "map?"]


@record
class Span:
    """Tasks of one job in one attempt. No indices at all means every task of the job."""

    job: Text
    attempt: U32
    indices: Indices


@record
class JobCount:
    """How many tasks of a job the broker has taken: all below `tasks`."""

    job: Text
    tasks: U64


@record
class SubmitGroup:
    """Tasks `first`, `first + 1`, … of a job. `options` come with the job's first group."""

    job: Text
    function: Id16
    options: OptionalMap
    first: U64
    closed: Flag
    bodies: Bodies


@record
class AssignGroup:
    """Tasks for a node. `options` come with the job's first group on this link."""

    job: Text
    attempt: U32
    function: Id16
    options: OptionalMap
    indices: Indices
    bodies: Bodies


@record
class ResultGroup:
    """Tasks that ended. `seconds` is the time they took to run, all together."""

    job: Text
    attempt: U32
    indices: Indices
    statuses: Statuses
    bodies: Bodies
    seconds: Seconds


@record
class InputGroup:
    """Tasks `first`, `first + 1`, … of a job refer to the same stored buffers.

    `keys` are their keys, one behind the other, and `sizes` the bytes under each.
    """

    job: Text
    first: U64
    count: U32
    keys: Keys
    sizes: Indices


JobCounts = Annotated[list[JobCount], "groups", JobCount]
Spans = Annotated[list[Span], "groups", Span]
SubmitGroups = Annotated[list[SubmitGroup], "groups", SubmitGroup]
AssignGroups = Annotated[list[AssignGroup], "groups", AssignGroup]
ResultGroups = Annotated[list[ResultGroup], "groups", ResultGroup]
InputGroups = Annotated[list[InputGroup], "groups", InputGroup]


@record
class ClientHello:
    """Opens or resumes a session. `session` is the client's secret token."""

    NUMBER: ClassVar[int] = 1
    protocol: U32
    session: Id16
    name: Text
    last_seq: U64
    limit: U32
    info: Map


@record
class WorkerHello:
    """Announces a node on a new link, with every attempt it still holds."""

    NUMBER: ClassVar[int] = 2
    protocol: U32
    node: Text
    boot_id: Id16
    slots: U32
    window: U32
    holding: Spans
    info: Map


@record
class ClientWelcome:
    """The session is open. `resumed` is false if the broker did not know it."""

    NUMBER: ClassVar[int] = 3
    protocol: U32
    broker: Id16
    resumed: Flag
    window_tasks: U64
    window_bytes: U64
    ping_interval: Seconds


@record
class WorkerWelcome:
    """The node is in. It keeps the attempts in `keep` and drops every other it holds."""

    NUMBER: ClassVar[int] = 4
    protocol: U32
    broker: Id16
    lease: Seconds
    renew_interval: Seconds
    beat_port: U32
    beat_row: U32
    beat_key: Key32
    beat_interval: Seconds
    keep: Spans


@record
class Refused:
    """The broker will not serve this peer, or this request; for a person to read."""

    NUMBER: ClassVar[int] = 5
    code: Text
    reason: Text


@record
class Who:
    """The broker does not know the sender: say hello (again)."""

    NUMBER: ClassVar[int] = 6
    broker: Id16


@record
class Bye:
    """The sender leaves for good."""

    NUMBER: ClassVar[int] = 7
    reason: Text


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
    name: Text
    bodies: Bodies


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
    window_tasks: U64


@record
class Assign:
    """Tasks for a node to run."""

    NUMBER: ClassVar[int] = 20
    groups: AssignGroups


@record
class Results:
    """Tasks that ended: node to broker, and broker to client. Kept until `Ack`."""

    NUMBER: ClassVar[int] = 21
    seq: U64
    groups: ResultGroups


@record
class Ack:
    """Every `Results` message up to `seq` was taken."""

    NUMBER: ClassVar[int] = 22
    seq: U64


@record
class Cancel:
    """End these tasks: from a client (attempt 0, any), and on to the nodes that hold them."""

    NUMBER: ClassVar[int] = 23
    spans: Spans


@record
class Recall:
    """Give back up to `count` tasks that no slot has started."""

    NUMBER: ClassVar[int] = 24
    count: U32


@record
class Returned:
    """Tasks that the node gives back unstarted."""

    NUMBER: ClassVar[int] = 25
    spans: Spans


@record
class Given:
    """Results of the jobs that `job` comes after, one group list for each, before its first tasks."""

    NUMBER: ClassVar[int] = 26
    job: Text
    results: ResultGroups


@record
class Attach:
    """Send this session the results of a durable job, those it has and those to come."""

    NUMBER: ClassVar[int] = 27
    job: Text


@record
class Detach:
    """Send no more results of a durable job."""

    NUMBER: ClassVar[int] = 28
    job: Text


@record
class Rejected:
    """The tasks of a submitted job from `first` on were not taken, and why."""

    NUMBER: ClassVar[int] = 29
    job: Text
    first: U64
    reason: Text


@record
class Throttle:
    """Hold back the results of a job that this session is attached to, or go on where that began."""

    NUMBER: ClassVar[int] = 30
    job: Text
    hold: Flag


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
    slots: U32
    window: U32


@record
class Lease:
    """The lease is extended, from the sending of the `Renew` with this counter."""

    NUMBER: ClassVar[int] = 33
    counter: U64


@record
class Event:
    """Something that people should know of: a child died, a heartbeat process was restarted."""

    NUMBER: ClassVar[int] = 34
    kind: Text
    text: Text
    details: Map


@record
class Drain:
    """Take nothing new, finish or give back what there is, say `Bye`."""

    NUMBER: ClassVar[int] = 35
    reason: Text


@record
class Output:
    """What a task printed, for the log of its durable job."""

    NUMBER: ClassVar[int] = 36
    job: Text
    attempt: U32
    index: U64
    text: Text


@record
class Want:
    """A node needs stored buffers, which belong to the session that is publicly called `owner`."""

    NUMBER: ClassVar[int] = 39
    key: Id16
    owner: Id16


@record
class Stock:
    """Stored buffers, one body with all of them; without a body they are not to be had (any more)."""

    NUMBER: ClassVar[int] = 40
    key: Id16
    bodies: Bodies


@record
class Pull:
    """A client asks a node, on the socket for that, for `size` bytes of a held result, from `at` on."""

    NUMBER: ClassVar[int] = 41
    key: Id16
    at: U64
    size: U32


@record
class Part:
    """The answer to a `Pull`: one body; without a body it is not to be had (any more)."""

    NUMBER: ClassVar[int] = 42
    key: Id16
    at: U64
    bodies: Bodies


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
    what: Text
    arguments: Map


@record
class Reply:
    """The answer to a `Query`. `error` is empty if it went well.

    If the asker's key does not allow it, `data` is `DENIED`.
    """

    NUMBER: ClassVar[int] = 49
    request: U64
    error: Text
    data: Value


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
    | Taken
    | Relay
    | Renew
    | Lease
    | Event
    | Drain
    | Output
    | Want
    | Stock
    | Pull
    | Part
    | Inputs
    | Query
    | Reply
)
