"""Results on their way to the client."""

from __future__ import annotations

from typing import ClassVar

from manyhands_shared.protocol.messages.fields import JobId, Seq, Switch
from manyhands_shared.protocol.messages.groups import ResultGroups
from manyhands_shared.protocol.record import record


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
class Throttle:
    """Hold back the results of a job that this session is attached to, or go on where that began."""

    NUMBER: ClassVar[int] = 30
    job: JobId
    hold: Switch
