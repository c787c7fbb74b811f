"""Large values, which go from host to host: held results and stored buffers."""

from __future__ import annotations

from typing import ClassVar

from manyhands_shared.protocol.messages.fields import U32, Id16, MaybeBody, Size
from manyhands_shared.protocol.messages.groups import InputGroups, Spans
from manyhands_shared.protocol.record import record


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
    """Stored buffers, one body with all of them; without a body they are gone."""

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
    """The answer to a `Pull`: one body; without a body it is gone."""

    NUMBER: ClassVar[int] = 42
    key: Id16
    at: Size
    bodies: MaybeBody


@record
class Inputs:
    """What tasks of the next `Submit` refer to. It only helps to place them well."""

    NUMBER: ClassVar[int] = 43
    groups: InputGroups
