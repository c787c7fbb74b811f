"""What the coordinator wants done; the log's write precedes all sends."""

from __future__ import annotations

from manyhands_broker.coordination.records import Record
from manyhands_broker.core.effects import Forget, Say, Send
from manyhands_shared.protocol.record import record


@record
class Write:
    """Have this in the write-ahead log before anything of this drain is sent."""

    record: Record


Effect = Send | Forget | Say | Write
