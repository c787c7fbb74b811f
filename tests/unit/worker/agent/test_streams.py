"""Two agents' ends of a stream, and links that lose what they carry."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest

from manyhands_shared.protocol.messages.coordination import (
    BOTH,
    CONNECTS,
    DESCRIPTOR,
    FORGOTTEN,
    RECEIVES,
    RUNNING,
    Deposit,
    Open,
    Opened,
    Shut,
)
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.model import NO_MEMBER, Member
from manyhands_worker.agent.core.streams import Streams
from manyhands_worker.agent.core.tables import Tables

PROGRAM, END, STREAM = b"p" * 16, b"e" * 16, b"s" * 16
CHANNEL = 7


class Side:
    """One agent, with a member, and what its loop would do."""

    def __init__(self, name: bytes) -> None:
        self.id = name * 16
        self.out: list[Any] = []
        self.sent: deque[Any] = deque()
        self.linked = True
        self.tables = Tables(self.out, self._send)
        self.streams = Streams(self.tables, self.out, self._send, self.id)
        self.member = Member(name.upper() * 16, PROGRAM, NO_MEMBER, CHANNEL, RUNNING)
        self.tables.add(self.member)
        self.told: list[tuple[Any, tuple[int, ...]]] = []
        self.closed: list[int] = []
        self.room = 0
        self.got = bytearray()
        self.ended = self.over = self.reading = False

    def _send(self, message: Any) -> None:
        if self.linked:
            self.sent.append(message)

    def hear(self, message: Any, *descriptors: int) -> None:
        """The member says something."""
        event = events.Heard(CHANNEL, message, list(descriptors))
        self.streams.from_members[type(message)](self.member, event, message)
        self.work()

    def receive(self, message: Any) -> None:
        """The other agent says something."""
        self.streams.receivers[type(message)](message)
        self.work()

    def read(self, data: bytes) -> None:
        """The member has written."""
        self.room -= len(data)
        self.streams.read(events.StreamRead(STREAM, data))
        self.work()

    def work(self) -> None:
        """Do what the core wants done; the member reads at once."""
        while self.out:
            effect: effects.Effect = self.out.pop(0)
            match effect:
                case effects.Tell():
                    self.told.append((effect.message, tuple(effect.descriptors)))
                case effects.CloseDescriptors():
                    self.closed += effect.descriptors
                case effects.AllowReading():
                    self.room += effect.count
                    self.reading = True
                case effects.StopReading():
                    self.reading = False
                case effects.Write():
                    self.got += effect.data
                    self.streams.wrote(events.StreamWrote(STREAM, len(effect.data)))
                case effects.EndWriting():
                    self.ended = True
                case effects.CloseStream():
                    self.over = True


@pytest.fixture
def sides() -> tuple[Side, Side]:
    return Side(b"a"), Side(b"b")


def onward(message: Any, sender: Side) -> Any:
    """What the broker makes of a message."""
    fields = {
        name: getattr(message, name) for name in type(message).__annotations__ if name != "NUMBER"
    }
    return type(message)(**{**fields, "agent": sender.id})


def carry(one: Side, two: Side) -> None:
    """Carry messages until there are none."""
    while one.sent or two.sent:
        for sender, receiver in ((one, two), (two, one)):
            while sender.sent:
                message = sender.sent.popleft()
                if not (type(message) is Shut and message.way == FORGOTTEN):
                    receiver.receive(onward(message, sender))


def claim(holder: Side, claimer: Side, way: int) -> None:
    holder.hear(Deposit(END, holder.member.id, NO_MEMBER, way, False), 5)
    claimer.hear(Open(STREAM, END, claimer.member.id, PROGRAM, holder.id, way))
    carry(holder, claimer)


def test_on_one_host_the_descriptor_itself_is_claimed_once(sides: tuple[Side, Side]) -> None:
    one, _ = sides
    one.hear(Deposit(END, one.member.id, NO_MEMBER, BOTH, False), 5)
    one.hear(Open(STREAM, END, one.member.id, PROGRAM, one.id, BOTH))
    answer, descriptors = one.told.pop()
    assert answer == Opened(STREAM, one.id, 0, "")
    assert descriptors == (5,)
    assert one.closed == [5]
    one.hear(Open(STREAM, END, one.member.id, PROGRAM, one.id, BOTH))
    answer, descriptors = one.told.pop()
    assert answer.error
    assert not descriptors
    assert not one.sent


def test_a_kept_deposit_is_claimed_again_and_ends_with_its_holder(sides: tuple[Side, Side]) -> None:
    one, _ = sides
    one.hear(Deposit(END, one.member.id, b"h" * 16, BOTH, True), 5)
    for _ in range(2):
        one.hear(Open(STREAM, END, one.member.id, PROGRAM, one.id, BOTH))
        assert one.told[-1][1] == (5,)
    one.streams.deposits.holder_ended(b"h" * 16)
    one.work()
    assert one.closed == [5]
    assert not len(one.streams.deposits)


def test_what_listens_ends_with_its_process(sides: tuple[Side, Side]) -> None:
    one, two = sides
    one.tables.add(Member(b"r" * 16, PROGRAM, NO_MEMBER, None, RUNNING))
    one.hear(Deposit(END, one.member.id, NO_MEMBER, CONNECTS, True), 5)
    one.hear(Deposit(STREAM, one.member.id, NO_MEMBER, BOTH, True), 6)
    one.tables.end(one.member, 0, "")
    one.work()
    # The program goes on, and what a process of it has pickled may be claimed.
    assert one.closed == [5]
    assert len(one.streams.deposits) == 1
    one.receive(Open(b"x" * 16, END, two.member.id, PROGRAM, two.id, CONNECTS))
    assert one.sent.pop().error


def test_other_descriptors_and_other_programs_are_refused(sides: tuple[Side, Side]) -> None:
    one, two = sides
    one.hear(Deposit(END, one.member.id, NO_MEMBER, DESCRIPTOR, False), 5)
    two.hear(Open(STREAM, END, two.member.id, PROGRAM, one.id, DESCRIPTOR))
    assert "leave its host" in two.told[-1][0].error
    one.receive(Open(STREAM, END, two.member.id, b"q" * 16, two.id, RECEIVES))
    assert one.sent.pop().error


@pytest.mark.parametrize("seed", range(200))
def test_every_byte_arrives_once_in_order_whatever_links_lose(
    sides: tuple[Side, Side], seed: int
) -> None:
    rng = random.Random(seed)
    one, two = sides
    claim(one, two, BOTH)
    text = {side.id: bytes(rng.randbytes(rng.randrange(3_000_000))) for side in sides}
    at = {side.id: 0 for side in sides}
    said_end: set[bytes] = set()
    for step in range(20_000):
        side = rng.choice(sides)
        other = two if side is one else one
        what = rng.random()
        if what < 0.01 and side.linked and step < 2_000:
            # The link is lost, and what both directions of it carry.
            side.linked = False
            side.sent.clear()
        elif what < 0.5 and side.sent:
            message = side.sent.popleft()
            if other.linked and not (type(message) is Shut and message.way == FORGOTTEN):
                other.receive(onward(message, side))
        elif what < 0.6 and not side.linked:
            side.linked = True
            side.streams.welcomed()
        elif side.reading and side.room > 0 and at[side.id] < len(text[side.id]):
            size = min(side.room, rng.randrange(1, 200_000), len(text[side.id]) - at[side.id])
            side.read(text[side.id][at[side.id] : at[side.id] + size])
            at[side.id] += size
        elif at[side.id] == len(text[side.id]) and side.id not in said_end:
            said_end.add(side.id)
            side.read(b"")
        if one.over and two.over:
            break
    assert one.over
    assert two.over
    assert one.got == text[two.id]
    assert two.got == text[one.id]
    assert one.ended
    assert two.ended


def test_an_end_that_takes_no_more_stops_the_other(sides: tuple[Side, Side]) -> None:
    one, two = sides
    claim(one, two, RECEIVES)
    one.read(b"x" * 1000)
    two.streams.broken(events.StreamBroken(STREAM))
    two.work()
    carry(one, two)
    assert not one.reading
    assert one.over
    assert two.over
