"""Pipes of the simulated program: each process may write to one that the root reads, over hosts too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from manyhands_worker.agent.core import effects, events

if TYPE_CHECKING:
    from simulation.coordination.host import Agent
    from simulation.coordination.member import Member
    from simulation.coordination.world import World

#: Descriptors below are of other things.
_FIRST = 1_000_000


@dataclass(slots=True)
class Pipe:
    """What is written to it, and how many descriptors write. `changed` reads."""

    changed: Callable[[], None]
    data: bytearray = field(default_factory=bytearray)
    writers: int = 0
    #: Whether nothing reads any more.
    broken: bool = False


class Files:
    """Descriptors that write to pipes."""

    def __init__(self) -> None:
        self._pipes: dict[int, Pipe] = {}
        self._numbers = count(_FIRST)

    def open(self, pipe: Pipe) -> int:
        """Return a new descriptor."""
        number = next(self._numbers)
        self._pipes[number] = pipe
        pipe.writers += 1
        return number

    def copy(self, number: int) -> int:
        """Return another descriptor of the same pipe."""
        return self.open(self._pipes[number])

    def write(self, number: int, data: bytes) -> None:
        """Write."""
        pipe = self._pipes[number]
        if not pipe.broken:
            pipe.data += data
            pipe.changed()

    def close(self, number: int) -> None:
        """Close a descriptor, if it is of a pipe."""
        pipe = self._pipes.pop(number, None)
        if pipe is not None:
            pipe.writers -= 1
            if not pipe.writers:
                pipe.changed()


@dataclass(slots=True)
class _Reading:
    """A pipe that an agent reads for a stream."""

    pipe: Pipe
    room: int = 0
    due: bool = False
    ended: bool = False


class Ends:
    """The ends of streams that an agent has, and the descriptors that it keeps."""

    def __init__(self, world: World, agent: Agent) -> None:
        self._world = world
        self._agent = agent
        #: Descriptors of deposits.
        self.kept: set[int] = set()
        self._reads: dict[bytes, _Reading] = {}
        self._writes: dict[bytes, int] = {}

    def do(self, effect: effects.ToStream) -> None:
        """Do what the core wants done."""
        match effect:
            case effects.MakeEnd(stream, _, member):
                self._make(stream, self._agent.members.get(member))
            case effects.Attach(stream, descriptor):
                self.kept.discard(descriptor)
                self._writes[stream] = descriptor
            case effects.AllowReading(stream, more):
                if stream in self._reads:
                    self._reads[stream].room += more
                    self._read_later(stream)
            case effects.StopReading(stream):
                if stream in self._reads:
                    self._reads.pop(stream).pipe.broken = True
            case effects.Write(stream, data):
                self._write(stream, data)
            case effects.EndWriting(stream) | effects.CloseStream(stream):
                if stream in self._writes:
                    self._world.files.close(self._writes.pop(stream))

    def close(self, descriptors: list[int]) -> None:
        """Close descriptors that came from processes."""
        for descriptor in descriptors:
            self.kept.discard(descriptor)
            self._world.files.close(descriptor)

    def die(self) -> None:
        """The agent is dead: all of it is closed."""
        self.close([*self.kept, *self._writes.values()])
        self._writes.clear()
        for reading in self._reads.values():
            reading.pipe.broken = True
        self._reads.clear()

    def _make(self, stream: bytes, member: Member | None) -> None:
        reading = self._reads[stream] = _Reading(Pipe(lambda: self._read_later(stream)))
        number = self._world.files.open(reading.pipe)
        if member is None:
            self._world.files.close(number)
        else:
            member.opened(number)

    def _write(self, stream: bytes, data: bytes) -> None:
        if stream in self._writes:
            self._world.files.write(self._writes[stream], data)
            wrote = events.StreamWrote(stream, len(data))
            self._world.after(0.0, lambda: self._agent.event(wrote))

    def _read_later(self, stream: bytes) -> None:
        reading = self._reads.get(stream)
        if reading is not None and not reading.due and not reading.ended:
            reading.due = True
            self._world.after(self._world.random.random() * 0.01, lambda: self._read(stream))

    def _read(self, stream: bytes) -> None:
        reading = self._reads.get(stream)
        if reading is None or not self._agent.when_running(lambda: self._read(stream)):
            return
        reading.due = False
        pipe = reading.pipe
        if pipe.data and reading.room:
            size = min(reading.room, len(pipe.data), self._world.random.randint(1, 64))
            data = bytes(pipe.data[:size])
            del pipe.data[:size]
            reading.room -= size
            self._agent.event(events.StreamRead(stream, data))
            self._read_later(stream)
        elif not pipe.data and not pipe.writers:
            reading.ended = True
            self._agent.event(events.StreamRead(stream, b""))


class PipeChecker:
    """What the root reads is what the process wrote, in order, and all of it if nothing was lost."""

    def __init__(self) -> None:
        self._written: dict[bytes, bytes] = {}
        self._read: dict[bytes, bytes] = {}
        self._writers: dict[bytes, Member] = {}
        #: Streams that an agent was told are gone.
        self.gone: set[bytes] = set()

    def written(self, member: Member, data: bytes) -> None:
        """A process writes to its pipe."""
        self._written[member.id] = self._written.get(member.id, b"") + data
        self._writers[member.id] = member

    def read(self, member: bytes, data: bytes) -> None:
        """The root reads what a process wrote."""
        found = self._read[member] = self._read.get(member, b"") + data
        written = self._written.get(member, b"")
        assert written.startswith(found), (
            f"the root reads other bytes behind {len(found) - len(data)}"
        )

    def ended(self, member: bytes, keeper: Agent) -> None:
        """The root finds the end of a pipe that `keeper` had for the process."""
        writer = self._writers.get(member)
        if writer is None or writer.agent is None or writer.stream in self.gone:
            return
        if keeper.alive and writer.agent.alive:
            written, found = self._written[member], self._read.get(member, b"")
            assert found == written, f"a pipe ends behind {len(found)} of {len(written)} bytes"
