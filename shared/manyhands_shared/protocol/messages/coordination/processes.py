"""Programs of several processes: host agents, members, and what they ask of the broker.

A module of its own, which `wire` imports with the first such message: most processes speak none.

The same messages run between a member and its host agent. There a member names itself, and the agent
passes on what is not for it. The broker believes an agent about the members of that agent alone.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from manyhands_shared.protocol import bounds
from manyhands_shared.protocol.bounds import Bytes, Groups, Int
from manyhands_shared.protocol.messages.fields import (
    U32,
    U64,
    AnyBodies,
    AnyIndices,
    Data,
    Id16,
    Info,
    Interval,
    Key32,
    MaybeBody,
    Name,
    OneBody,
    Reason,
    Size,
    Stream,
    Switch,
)
from manyhands_shared.protocol.record import record

#: The least number of these messages.
FIRST_NUMBER = 64

#: Ids of members, programs or objects, one behind the other.
Ids = Annotated[bytes, Bytes("ids", 16, most=65_536)]
#: How a process ended: its exit code, or a signal's number below zero.
ExitCode = Annotated[int, Int("code", -255, 255)]
SignalNumber = Annotated[int, Int("signal", 1, 64)]
#: Places and lengths of what was written.
Ranges = Annotated[bytes, Bytes("ranges", 12, most=65_536)]
#: Of a new process; see the page on the protocol.
StartOptions = Annotated[dict[str, Any], bounds.Map("start", 3, 4_096, 1 << 20)]

#: What a claimer does with an end: a descriptor that stays on its host; receives, sends, does both;
#: connects to what listens there.
DESCRIPTOR, RECEIVES, SENDS, BOTH, CONNECTS = range(5)
StreamWay = Annotated[int, Int("way", DESCRIPTOR, CONNECTS)]
#: The sender's bytes end; the sender takes no more; the stream is gone; the sender has forgotten it.
END, STOP, GONE, FORGOTTEN = range(1, 5)
ShutWay = Annotated[int, Int("shut", END, FORGOTTEN)]

#: The `at` of a note that the broker has for the program's user: printed as it comes, not acknowledged.
NOTE_AT = (1 << 53) - 1
#: Of a member, as its agent says: its process is being started; runs; has ended, and `Ended` comes.
STARTING, RUNNING, ENDED = range(3)
MemberPhase = Annotated[int, Int("phase", STARTING, ENDED)]


@record
class MemberState:
    """A member on an agent's host. `parent` is all zeros for a root and for a pool's child."""

    member: Id16
    program: Id16
    parent: Id16
    phase: MemberPhase
    pid: U32


MemberStates = Annotated[list[MemberState], Groups(MemberState)]


@record
class AgentWanted:
    """The node starts its host agent, unless it runs."""

    NUMBER: ClassVar[int] = 64
    host: Name


@record
class AgentEnded:
    """The node's host agent has ended, and its members with it; or it could not be started.

    `agent` is all zeros for one that could not be.
    """

    NUMBER: ClassVar[int] = 65
    host: Name
    agent: Id16
    reason: Reason


@record
class AgentHello:
    """Announces a host agent on a new link, with every member on its host.

    `boot_id` is that of the node that started it, all zeros for a root's own. `capacity` is how many
    processes may be started there. `programs` are those whose root is on this host.
    """

    NUMBER: ClassVar[int] = 66
    protocol: U32
    host: Name
    node: Name
    boot_id: Id16
    agent: Id16
    address: Name
    capacity: U32
    members: MemberStates
    programs: Ids
    info: Info


@record
class AgentWelcome:
    """The agent is in. It keeps the members in `keep`, and kills every other it has."""

    NUMBER: ClassVar[int] = 67
    protocol: U32
    broker: Id16
    lease: Interval
    renew_interval: Interval
    keep: Ids


@record
class Program:
    """A program begins; `Placed` about its root is the answer.

    To an agent: members of this program will come, who prove themselves by `member_key`.
    """

    NUMBER: ClassVar[int] = 68
    program: Id16
    root: Id16
    host: Name
    member_key: Key32
    info: Info


@record
class MemberHello:
    """A process speaks as a member. `proof` shows that it knows the program's secret.

    Only if it is refused is there an answer: `Placed` with an error.
    """

    NUMBER: ClassVar[int] = 69
    program: Id16
    member: Id16
    proof: Id16
    pid: U32


@record
class Start:
    """Start a process. `carries` are the keys of the objects that are pickled in `bodies`."""

    NUMBER: ClassVar[int] = 70
    member: Id16
    parent: Id16
    program: Id16
    options: StartOptions
    carries: Ids
    bodies: AnyBodies


@record
class Placed:
    """On which host and node a member is started; with an `error`, that it is not."""

    NUMBER: ClassVar[int] = 71
    member: Id16
    host: Name
    node: Name
    error: Reason


@record
class Began:
    """The member runs."""

    NUMBER: ClassVar[int] = 72
    member: Id16
    pid: U32


@record
class Ended:
    """The member has ended. `reason` says why, where it did not end by itself."""

    NUMBER: ClassVar[int] = 73
    member: Id16
    code: ExitCode
    reason: Reason


@record
class ExitAcknowledged:
    """The receiver's `Ended` was taken: it need not be said again."""

    NUMBER: ClassVar[int] = 74
    member: Id16


@record
class Signal:
    """Send the member's process a signal."""

    NUMBER: ClassVar[int] = 75
    member: Id16
    number: SignalNumber


@record
class ProcessOutput:
    """What a member wrote, for its program's root. `at` counts the bytes of that stream before it."""

    NUMBER: ClassVar[int] = 76
    member: Id16
    program: Id16
    stream: Stream
    at: Size
    bodies: AnyBodies


@record
class OutputTaken:
    """The root has what the member wrote to this stream, up to `until`. The rest may come again."""

    NUMBER: ClassVar[int] = 102
    member: Id16
    stream: Stream
    until: Size


@record
class Request:
    """An operation on an object. `number` counts the member's requests; with `quiet` it has no answer.

    `settled` is the request whose answer the member received last, 0 before the first: it has what
    the broker had sent it before that one.
    """

    NUMBER: ClassVar[int] = 77
    member: Id16
    number: U64
    settled: U64
    key: Id16
    operation: U32
    quiet: Switch
    arguments: Data
    bodies: AnyBodies


@record
class Response:
    """The answer to a request. `epoch` is the object's: it rises with each holder that was lost."""

    NUMBER: ClassVar[int] = 78
    member: Id16
    number: U64
    outcome: U32
    epoch: U64
    arguments: Data
    bodies: AnyBodies


@record
class Withdraw:
    """The member has given up a request: it waits no more, and what it was granted is given back."""

    NUMBER: ClassVar[int] = 79
    member: Id16
    number: U64
    key: Id16


@record
class ItemsTaken:
    """The member has the items that came with the answers to these requests."""

    NUMBER: ClassVar[int] = 84
    member: Id16
    numbers: AnyIndices


@record
class Deposit:
    """A member has its agent keep a descriptor, which is pickled somewhere by the name `end`.

    Runs on member channels alone; the answer is `Opened`. `holder` is the member that is being started
    with it, all zeros without one: with the end of that member it is dropped. What is `kept` can be
    claimed again and again, the rest once.
    """

    NUMBER: ClassVar[int] = 94
    end: Id16
    member: Id16
    holder: Id16
    way: StreamWay
    kept: Switch


@record
class Open:
    """A member claims an end that was deposited with `agent`. To that agent, `agent` is the claimer's.

    `way` is what the claimer does with it. `stream` is a new id: of the answer, and of the bytes between
    the two ends.
    """

    NUMBER: ClassVar[int] = 95
    stream: Id16
    end: Id16
    member: Id16
    program: Id16
    agent: Id16
    way: StreamWay


@record
class Opened:
    """The stream is open at the sender, which has its bytes up to `until`; or an `error` says why not.

    An agent says so again over a new link, and is sent what is behind `until`.
    """

    NUMBER: ClassVar[int] = 96
    stream: Id16
    agent: Id16
    until: Size
    error: Reason


@record
class Flow:
    """Bytes of a stream, those from `at` on. `agent` is where they go, and to that agent the sender."""

    NUMBER: ClassVar[int] = 97
    stream: Id16
    agent: Id16
    at: Size
    bodies: AnyBodies


@record
class Grant:
    """The receiver's end of a stream has taken the bytes up to `until`; the end counts as one."""

    NUMBER: ClassVar[int] = 98
    stream: Id16
    agent: Id16
    until: Size


@record
class Shut:
    """A way of a stream is over; see the page on the protocol. `at` is where its bytes end.

    From a member: it will not pickle the deposit `stream` after all.
    """

    NUMBER: ClassVar[int] = 99
    stream: Id16
    agent: Id16
    way: ShutWay
    at: Size


@record
class Patch:
    """What was written to a segment: `data` has the bytes of all `ranges`, one behind the other.

    A range is a place (u64) and a number of bytes (u32), both with the lowest byte first.
    """

    segment: Id16
    ranges: Ranges
    data: OneBody


Patches = Annotated[list[Patch], Groups(Patch, most=4_096)]


@record
class Map:
    """A segment of shared memory: made on this host, or, with `size` 0, wanted here.

    `Mapped` answers one that is wanted. `seq` counts what the agent says of the memory of a program; it
    is 0 for one that is wanted.
    """

    NUMBER: ClassVar[int] = 85
    program: Id16
    segment: Id16
    seq: U64
    size: Size
    shape: Data


@record
class Share:
    """Another host wants this segment: the agent sends all of it, and from now on what is written."""

    NUMBER: ClassVar[int] = 86
    segment: Id16


@record
class Write:
    """What was written to the memory of a program.

    From an agent `seq` is its number, and `clock` is 0. To an agent `seq` is the last of its own that
    the broker had, and `clock` that of the program's memory.
    """

    NUMBER: ClassVar[int] = 87
    program: Id16
    seq: U64
    clock: U64
    patches: Patches


@record
class Fetch:
    """The agent wants this part of a segment that was mapped."""

    NUMBER: ClassVar[int] = 89
    segment: Id16
    at: Size
    size: U32


@record
class FetchPart:
    """A part of a segment; without a body all of it is zeros. `last` ends the answer to `Share`."""

    NUMBER: ClassVar[int] = 90
    segment: Id16
    at: Size
    last: Switch
    bodies: MaybeBody


@record
class Unmap:
    """No member on the agent's host has this segment. From the broker: nothing needs it there."""

    NUMBER: ClassVar[int] = 91
    program: Id16
    segment: Id16
    seq: U64


@record
class Pin:
    """The segment stays until the program ends: a process that is not known may open it."""

    NUMBER: ClassVar[int] = 92
    program: Id16
    segment: Id16
    seq: U64


@record
class Mapped:
    """The answer to `Map`: the agent may fetch the segment. With another `outcome` than 0 it may not."""

    NUMBER: ClassVar[int] = 103
    program: Id16
    segment: Id16
    outcome: U32
    size: Size
    shape: Data
    reason: Reason


CoordinationMessage = (
    AgentWanted
    | AgentEnded
    | AgentHello
    | AgentWelcome
    | Program
    | MemberHello
    | Start
    | Placed
    | Began
    | Ended
    | ExitAcknowledged
    | Signal
    | ProcessOutput
    | OutputTaken
    | Request
    | Response
    | Withdraw
    | ItemsTaken
    | Deposit
    | Open
    | Opened
    | Flow
    | Grant
    | Shut
    | Map
    | Share
    | Write
    | Fetch
    | FetchPart
    | Unmap
    | Pin
    | Mapped
)
