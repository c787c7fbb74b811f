"""What the fields of messages may hold. `wire` checks it, `docs/protocol.md` prints it."""

from __future__ import annotations

from typing import Annotated, Any

from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol.bounds import (
    MAX_INDEX,
    MAX_TASKS,
    Bodies,
    Bytes,
    Flag,
    Float,
    Indices,
    Int,
    Map,
    Statuses,
    Text,
    Value,
)
from manyhands_shared.protocol.status import Status

#: Characters of a sentence: an event's, a refusal's.
EVENT_CHARS = 4_096
#: Keys of stored buffers in one group.
MAX_KEYS = 16
#: Numbers about one run of tasks.
RUN_FIGURES = 11
#: Tasks that a node may say to run just now.
MAX_RUNNING = 64
#: Stacks in one answer of a node.
MAX_STACKS = 1_024
#: The data of a reply to a query that the asker's key does not allow.
DENIED = "denied"

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
#: Standard output, standard error.
Stream = Annotated[int, Int("stream", 1, 2)]
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
Figures = Annotated[list[int], Indices("figures", most=1_024 * RUN_FIGURES, distinct=False)]
StatusBytes = Annotated[bytes, Statuses(max(Status))]
AnyBodies = Annotated[list[Payload], Bodies()]
OneBody = Annotated[list[Payload], Bodies("body", 1, 1)]
#: A body, or nothing where it is gone.
MaybeBody = Annotated[list[Payload], Bodies("body?", 0, 1)]
