"""Descriptors of shared memory at the host agent: each is closed once, whatever is wrong with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from manyhands_shared.coordination.kinds import Outcome
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_shared.shm.segment import new_file
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.identity import AgentIdentity
from manyhands_worker.agent.host_memory import HostMemories, HostMemory

ROOT, CHILD, PROGRAM, SEGMENT = b"r" * 16, b"c" * 16, b"p" * 16, b"s" * 16
SIZE = 4_096


class Agent:
    """An agent with a root, on real memory."""

    def __init__(self, source: HostMemories | None = None, *, goes_on: bool = False) -> None:
        self.core = AgentCore(
            AgentIdentity(b"a" * 16, "h", "n", bytes(16), "@x", 1), source or HostMemories()
        )
        self.do(events.LinkUp())
        self.hear(c.AgentWelcome(1, b"b" * 16, 10.0, 2.0, b""))
        root = c.Program(PROGRAM, ROOT, "h", b"m" * 32, {"pid": 7, "goes_on": goes_on})
        self.do(events.Heard(-1, root, [-1, -1]))
        self.hear(c.Placed(ROOT, "h", "n", ""))

    def do(self, event: events.Event, now: float = 0.0) -> list[effects.Effect]:
        found = self.core.handle(event, now)
        self.core.validate()
        return found

    def hear(self, message: object) -> list[effects.Effect]:
        return self.do(events.Received(message))  # type: ignore[arg-type]

    def map(self, *descriptors: int, size: int = SIZE) -> list[effects.Effect]:
        message = c.Map(PROGRAM, SEGMENT, 0, size, 1 if size else None)
        return self.do(events.Heard(-1, message, list(descriptors)))

    def map_for_child(self) -> list[effects.Effect]:
        """Have another process of the host ask for the segment."""
        hello = c.MemberHello(PROGRAM, CHILD, bytes(16), 8)
        return self.do(events.Heard(-2, hello, [])) + self.do(
            events.Heard(-2, c.Map(PROGRAM, SEGMENT, 0, 0, None), [])
        )


def given(found: list[effects.Effect]) -> list[Outcome]:
    """Return what the child was answered."""
    return [
        Outcome(one.message.outcome)
        for one in found
        if isinstance(one, effects.Tell) and one.channel == -2 and isinstance(one.message, c.Mapped)
    ]


def names() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def closed(found: list[effects.Effect]) -> list[int]:
    """Return what the agent is to close besides what it has closed."""
    return [
        fd for one in found if isinstance(one, effects.CloseDescriptors) for fd in one.descriptors
    ]


def test_a_descriptor_of_no_segment_is_closed_once() -> None:
    agent = Agent()
    # Its size is not sealed: who has it could take the memory away again.
    descriptor = os.memfd_create("loose")
    os.ftruncate(descriptor, SIZE)
    assert closed(agent.map(descriptor)) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_segment_that_is_known_already_is_not_taken_twice() -> None:
    agent = Agent()
    assert closed(agent.map(new_file(SIZE))) == []
    second = new_file(SIZE)
    assert closed(agent.map(second)) == [second]
    os.close(second)


def test_memory_without_room_for_its_twin_is_closed() -> None:
    class NoTwin(HostMemory):
        def make_twin(self) -> None:
            raise OSError(errno.ENOMEM, "no memory")

    class Short(HostMemories):
        def make(self, size: int) -> HostMemory:
            return NoTwin(new_file(size), size)

    agent = Agent(Short())
    agent.map(size=0)
    before = names()
    found = agent.hear(c.Mapped(PROGRAM, SEGMENT, Outcome.OK, SIZE, 1, ""))
    [told] = [one for one in found if isinstance(one, effects.Tell)]
    assert isinstance(told.message, c.Mapped)
    assert told.message.outcome == Outcome.NO_ROOM
    assert names() == before


def test_memory_of_a_root_that_was_here_before_is_given_when_it_has_what_the_broker_has() -> None:
    agent = Agent(goes_on=True)
    descriptor = new_file(SIZE)
    os.pwrite(descriptor, b"old", 0)
    agent.map(descriptor)
    # What a child wrote there now the broker's content would undo.
    assert given(agent.map_for_child()) == []
    found = agent.hear(c.Mapped(PROGRAM, SEGMENT, Outcome.OK, SIZE, 1, ""))
    assert given(found) == []
    found = agent.hear(c.FetchPart(SEGMENT, 0, True, [b"new".ljust(SIZE, b"\0")]))
    assert given(found) == [Outcome.OK]
    assert os.pread(descriptor, 3, 0) == b"new"


def test_it_is_given_at_once_where_the_broker_has_no_other() -> None:
    agent = Agent(goes_on=True)
    agent.map(new_file(SIZE))
    assert given(agent.map_for_child()) == []
    # The broker has heard of it, and has said nothing.
    [renewal] = [
        one.message
        for one in agent.do(events.Tick(), now=5.0)
        if isinstance(one, effects.Send) and isinstance(one.message, m.Renew)
    ]
    assert given(agent.hear(m.Lease(renewal.counter))) == [Outcome.OK]


def test_it_is_given_where_another_host_is_to_have_it() -> None:
    agent = Agent(goes_on=True)
    agent.map(new_file(SIZE))
    assert given(agent.map_for_child()) == []
    assert given(agent.hear(c.Share(SEGMENT))) == [Outcome.OK]


def test_memory_of_a_new_root_is_given_at_once() -> None:
    agent = Agent()
    agent.map(new_file(SIZE))
    assert given(agent.map_for_child()) == [Outcome.OK]
