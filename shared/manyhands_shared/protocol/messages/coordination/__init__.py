"""Programs of several processes: host agents, members, and what they ask of the broker.

A package of its own, which `wire` imports with the first such message: most processes speak none.

The same messages run between a member and its host agent. There a member names itself, and the agent
passes on what is not for it. The broker believes an agent about the members of that agent alone.
"""

from __future__ import annotations

from manyhands_shared.protocol.messages.coordination.objects import (
    ItemsTaken,
    LockReturned,
    LockWords,
    RecallLock,
    Request,
    Response,
    Withdraw,
)
from manyhands_shared.protocol.messages.coordination.processes import (
    ENDED,
    NOTE_AT,
    RUNNING,
    STARTING,
    AgentAt,
    AgentEnded,
    AgentHello,
    AgentWanted,
    AgentWelcome,
    Began,
    Ended,
    ExitAcknowledged,
    ExitCode,
    Ids,
    MemberHello,
    MemberPhase,
    MemberState,
    MemberStates,
    OutputTaken,
    PassedOn,
    Placed,
    ProcessOutput,
    Program,
    Signal,
    SignalNumber,
    Start,
    StartOptions,
)
from manyhands_shared.protocol.messages.coordination.shared_memory import (
    Fetch,
    FetchPart,
    Map,
    Mapped,
    Patch,
    Patches,
    Pin,
    Ranges,
    Share,
    Unmap,
    Write,
)
from manyhands_shared.protocol.messages.coordination.streams import (
    BOTH,
    CONNECTS,
    DESCRIPTOR,
    END,
    FORGOTTEN,
    GONE,
    RECEIVES,
    SENDS,
    STOP,
    Deposit,
    Flow,
    Grant,
    Open,
    Opened,
    Shut,
    ShutWay,
    StreamWay,
)

#: The least number of these messages.
FIRST_NUMBER = 64

CoordinationMessage = (
    AgentWanted
    | AgentAt
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
    | RecallLock
    | LockReturned
    | LockWords
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
    | PassedOn
)

__all__ = [
    "BOTH",
    "CONNECTS",
    "DESCRIPTOR",
    "END",
    "ENDED",
    "FIRST_NUMBER",
    "FORGOTTEN",
    "GONE",
    "NOTE_AT",
    "RECEIVES",
    "RUNNING",
    "SENDS",
    "STARTING",
    "STOP",
    "AgentAt",
    "AgentEnded",
    "AgentHello",
    "AgentWanted",
    "AgentWelcome",
    "Began",
    "CoordinationMessage",
    "Deposit",
    "Ended",
    "ExitAcknowledged",
    "ExitCode",
    "Fetch",
    "FetchPart",
    "Flow",
    "Grant",
    "Ids",
    "ItemsTaken",
    "LockReturned",
    "LockWords",
    "Map",
    "Mapped",
    "MemberHello",
    "MemberPhase",
    "MemberState",
    "MemberStates",
    "Open",
    "Opened",
    "OutputTaken",
    "PassedOn",
    "Patch",
    "Patches",
    "Pin",
    "Placed",
    "ProcessOutput",
    "Program",
    "Ranges",
    "RecallLock",
    "Request",
    "Response",
    "Share",
    "Shut",
    "ShutWay",
    "Signal",
    "SignalNumber",
    "Start",
    "StartOptions",
    "StreamWay",
    "Unmap",
    "Withdraw",
    "Write",
]
