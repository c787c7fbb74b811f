"""The messages of manyhands protocol 1, as `docs/protocol.md` specifies them.

Every message is a record whose fields are written in order as one msgpack array behind
the message's number. Vectors carry many tasks a message, grouped by job and attempt; within a group
the fields `indices`, `statuses` and `bodies` run in parallel. The annotation of each field says what it
may hold (`bounds`), which `wire` checks on the way in, at every peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyhands_shared import PROTOCOL_VERSION
from manyhands_shared.protocol.messages.fields import (
    DENIED,
    EVENT_CHARS,
    MAX_KEYS,
    MAX_RUNNING,
    MAX_STACKS,
    RUN_FIGURES,
    U32,
    U64,
    AnyBodies,
    AnyIndices,
    Arguments,
    Attempt,
    Count,
    Data,
    Details,
    Figures,
    Id16,
    Index,
    Info,
    Interval,
    JobId,
    Key32,
    Keys,
    Lines,
    MaybeBody,
    Name,
    OneBody,
    Options,
    Port,
    Reason,
    Row,
    Seconds,
    Seq,
    Size,
    Sizes,
    Slots,
    SomeIndices,
    StatusBytes,
    Switch,
    Tasks,
    Word,
)
from manyhands_shared.protocol.messages.groups import (
    AssignGroup,
    AssignGroups,
    Dependency,
    DependencyGroups,
    InputGroup,
    InputGroups,
    JobCount,
    JobCounts,
    JobStanding,
    JobStandings,
    ResultGroup,
    ResultGroups,
    RunGroup,
    RunGroups,
    RunningGroups,
    Span,
    Spans,
    Stack,
    Stacks,
    SubmitGroup,
    SubmitGroups,
    TaskStanding,
    TaskStandings,
)
from manyhands_shared.protocol.messages.printed import Printed, PrintedGroup, PrintedGroups
from manyhands_shared.protocol.messages.questions import (
    Event,
    Inspect,
    Inspected,
    Output,
    Query,
    Ran,
    Reply,
)
from manyhands_shared.protocol.messages.results import Ack, Attach, Detach, Results, Throttle
from manyhands_shared.protocol.messages.sessions import (
    Bye,
    ClientHello,
    ClientWelcome,
    Drain,
    Lease,
    Ping,
    Pong,
    Refused,
    Renew,
    Who,
    WorkerHello,
    WorkerWelcome,
)
from manyhands_shared.protocol.messages.tasks import (
    Accepted,
    Assign,
    Cancel,
    Dependencies,
    Function,
    Given,
    JobsOver,
    KnownResults,
    Making,
    Need,
    Recall,
    Rejected,
    Returned,
    Standing,
    Submit,
    WantResults,
)
from manyhands_shared.protocol.messages.values import (
    Inputs,
    Part,
    Pull,
    Relay,
    Stock,
    Taken,
    Unheard,
    Want,
)
from manyhands_shared.protocol.status import Status

if TYPE_CHECKING:
    from manyhands_shared.protocol.messages.coordination import CoordinationMessage

#: Those of `messages.coordination` are no part of it at run time: most processes never import them.
SchedulingMessage = (
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
    | Making
    | Submit
    | Accepted
    | Assign
    | Results
    | Ack
    | Cancel
    | Recall
    | Returned
    | Given
    | JobsOver
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
    | Ran
    | Inspect
    | Inspected
    | Want
    | Unheard
    | Stock
    | Pull
    | Part
    | Inputs
    | Dependencies
    | WantResults
    | KnownResults
    | Query
    | Reply
    | Printed
)

if TYPE_CHECKING:
    Message = SchedulingMessage | CoordinationMessage
else:
    Message = SchedulingMessage

__all__ = [
    "DENIED",
    "EVENT_CHARS",
    "MAX_KEYS",
    "MAX_RUNNING",
    "MAX_STACKS",
    "PROTOCOL_VERSION",
    "RUN_FIGURES",
    "U32",
    "U64",
    "Accepted",
    "Ack",
    "AnyBodies",
    "AnyIndices",
    "Arguments",
    "Assign",
    "AssignGroup",
    "AssignGroups",
    "Attach",
    "Attempt",
    "Bye",
    "Cancel",
    "ClientHello",
    "ClientWelcome",
    "Count",
    "Data",
    "Dependencies",
    "Dependency",
    "DependencyGroups",
    "Detach",
    "Details",
    "Drain",
    "Event",
    "Figures",
    "Function",
    "Given",
    "Id16",
    "Index",
    "Info",
    "InputGroup",
    "InputGroups",
    "Inputs",
    "Inspect",
    "Inspected",
    "Interval",
    "JobCount",
    "JobCounts",
    "JobId",
    "JobStanding",
    "JobStandings",
    "JobsOver",
    "Key32",
    "Keys",
    "KnownResults",
    "Lease",
    "Lines",
    "Making",
    "MaybeBody",
    "Message",
    "Name",
    "Need",
    "OneBody",
    "Options",
    "Output",
    "Part",
    "Ping",
    "Pong",
    "Port",
    "Printed",
    "PrintedGroup",
    "PrintedGroups",
    "Pull",
    "Query",
    "Ran",
    "Reason",
    "Recall",
    "Refused",
    "Rejected",
    "Relay",
    "Renew",
    "Reply",
    "ResultGroup",
    "ResultGroups",
    "Results",
    "Returned",
    "Row",
    "RunGroup",
    "RunGroups",
    "RunningGroups",
    "SchedulingMessage",
    "Seconds",
    "Seq",
    "Size",
    "Sizes",
    "Slots",
    "SomeIndices",
    "Span",
    "Spans",
    "Stack",
    "Stacks",
    "Standing",
    "Status",
    "StatusBytes",
    "Stock",
    "Submit",
    "SubmitGroup",
    "SubmitGroups",
    "Switch",
    "Taken",
    "TaskStanding",
    "TaskStandings",
    "Tasks",
    "Throttle",
    "Unheard",
    "Want",
    "WantResults",
    "Who",
    "Word",
    "WorkerHello",
    "WorkerWelcome",
]
