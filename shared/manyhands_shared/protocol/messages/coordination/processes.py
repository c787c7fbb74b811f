"""Programs of several processes: their host agents and their members."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from manyhands_shared.protocol import bounds
from manyhands_shared.protocol.bounds import Bytes, Groups, Int
from manyhands_shared.protocol.messages.fields import (
    U32,
    AnyBodies,
    Id16,
    Info,
    Interval,
    Key32,
    Name,
    Reason,
    Size,
    Stream,
)
from manyhands_shared.protocol.record import record

#: Ids of members, programs or objects, one behind the other.
Ids = Annotated[bytes, Bytes("ids", 16, most=65_536)]
#: How a process ended: its exit code, or a signal's number below zero.
ExitCode = Annotated[int, Int("code", -255, 255)]
SignalNumber = Annotated[int, Int("signal", 1, 64)]
#: Of a new process; see the page on the protocol.
StartOptions = Annotated[dict[str, Any], bounds.Map("start", 3, 4_096, 1 << 20)]

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
class AgentAt:
    """The node's host has the agent of another node: what connects here is passed on to it."""

    NUMBER: ClassVar[int] = 104
    address: Name


@record
class PassedOn:
    """Brings, as a descriptor, a connection that was made to another node of the host."""

    NUMBER: ClassVar[int] = 105
    address: Name


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
