"""What the write-ahead log holds: the last record of a key counts."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from manyhands_shared.protocol.record import record


class RecordKind(IntEnum):
    """What a record is of. The numbers stand in files."""

    #: By program id.
    PROGRAM = 1
    #: By member id: where it is and how it ended.
    MEMBER = 2
    #: By member id: its last request, and the answers that it may ask for again.
    REQUESTS = 3
    #: By the object's key.
    OBJECT = 4
    #: By the queue's key and 8 bytes of the item's number.
    ITEM = 5
    #: By member id and 8 bytes of the request's number: a request that waits.
    WAITER = 6
    #: By the segment's key: where it is, but not what is in it.
    SEGMENT = 7
    #: By the segment's key and 8 bytes of the grain's number.
    GRAIN = 8
    #: By program id and agent id: the last of what the agent has said of the program's memory.
    WRITTEN = 9


@record
class Record:
    """The state of one thing, in plain values and bytes; `None` says that it is gone."""

    kind: RecordKind
    key: bytes
    payload: Any
