"""Descriptors that travel between processes, and the bytes that pass between their hosts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from manyhands_shared.protocol.bounds import Int
from manyhands_shared.protocol.messages.fields import (
    AnyBodies,
    Id16,
    Reason,
    Size,
    Switch,
)
from manyhands_shared.protocol.record import record

#: What a claimer does with an end: a descriptor that stays on its host; receives, sends, does both;
#: connects to what listens there.
DESCRIPTOR, RECEIVES, SENDS, BOTH, CONNECTS = range(5)
StreamWay = Annotated[int, Int("way", DESCRIPTOR, CONNECTS)]
#: The sender's bytes end; the sender takes no more; the stream is gone; the sender has forgotten it.
END, STOP, GONE, FORGOTTEN = range(1, 5)
ShutWay = Annotated[int, Int("shut", END, FORGOTTEN)]


@record
class Deposit:
    """A member has its agent keep a descriptor, which is pickled somewhere by the name `end`.

    Runs on member channels alone; the answer is `Opened`. `holder` is the member that is being started
    with it, all zeros without one: with the end of that member it is dropped. What listens is dropped
    with the end of `member`. What is `kept` can be claimed again and again, the rest once.
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
