"""Memory of a program on several hosts: real agents' and broker's cores in random histories."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable, Iterator

import pytest

from harness.worlds.memory import PROGRAM, Host, World
from manyhands_broker.coordination.model import Agent, Program
from manyhands_broker.coordination.shared_memory import memory, names, pacing
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.shared_memory.segments import ProgramMemory, Stale, lacking
from manyhands_broker.core.events import Received
from manyhands_broker.core.model.identity import ANYBODY
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.coordination.memory.differences import pack_ranges
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import events
from manyhands_worker.agent.core.memory.mirrors import Mirrors
from manyhands_worker.agent.core.memory.segment import Segment

SEGMENT, LOCK = b"s" * 16, b"l" * 16
ITEM = 8
#: A structure of two numbers of 4 bytes and one of 8: items are neighbours within an element.
SHAPES = (8, [16, [0, 4, 8]])


class Wrong(AssertionError):
    """A host saw what it must not see."""


class History:
    """Every host adds to one counter under a lock, and to an item of its own whenever it likes."""

    def __init__(self, seed: int, *, faults: bool) -> None:
        self.random = random.Random(seed)
        self.faults = self.random.randint(1, 8) if faults else 0
        self.world = World(self.random.choice((2, 3, 4)))
        self.size = self.random.choice((128, 4096, 70_000))
        self.rounds = 6
        self.added = 0
        first = self.world.hosts[0]
        first.say(c.Map(PROGRAM, SEGMENT, 0, self.size, self.random.choice(SHAPES)), 7)
        first.ask(Operation.CREATE, LOCK, int(Kind.LOCK), [], "")
        self.world.settle()
        self.memories = {first: first.memories.made[7].memory}
        self.left = dict.fromkeys(self.world.hosts, self.rounds)
        self.waits: dict[Host, int | None] = dict.fromkeys(self.world.hosts)
        self.inside: dict[Host, bool] = dict.fromkeys(self.world.hosts, False)
        self.released = dict.fromkeys(self.world.hosts, 0)
        for host in self.world.hosts[1:]:
            host.say(c.Map(PROGRAM, SEGMENT, 0, 0, None))

    def item(self, host: Host, place: int) -> int:
        value: int = struct.unpack_from("<q", self.memories[host], place * ITEM)[0]
        return value

    def put(self, host: Host, place: int, value: int) -> None:
        struct.pack_into("<q", self.memories[host], place * ITEM, value)

    def own(self, host: Host) -> int:
        return 1 + self.world.hosts.index(host)

    def run(self) -> None:
        for _ in range(20_000):
            if not any(self.left.values()):
                break
            self.step(self.random.choice(self.world.hosts))
        else:
            raise Wrong("it never ends")
        for _ in range(4):
            self.world.settle()
            self.world.pass_time(0.06)
        self.world.settle()
        ends = {host: bytes(memory) for host, memory in self.memories.items()}
        if len(set(ends.values())) > 1:
            raise Wrong("hosts end with different memories")
        assert len(ends) == len(self.world.hosts)
        if self.item(self.world.hosts[0], 0) != self.added:
            raise Wrong(f"{self.added} were added: {self.item(self.world.hosts[0], 0)}")

    def step(self, host: Host) -> None:
        what = self.random.random()
        if self.faults and what > 0.99:
            self.faults -= 1
            if self.random.random() < 0.3:
                self.world.restart()
            else:
                host.connect()
        elif what < 0.4:
            self._deliver(host)
        elif what < 0.45:
            self.world.pass_time(self.random.choice((0.01, 0.05)))
        elif host not in self.memories:
            memory = host.memory(SEGMENT)
            if memory is not None:
                self.memories[host] = memory
        elif what < 0.6:
            self.put(host, self.own(host), self.item(host, self.own(host)) + 1)
        elif self.inside[host]:
            self._inside(host)
        elif self.waits[host] is not None:
            self._look(host)
        elif self.left[host]:
            self.waits[host] = host.ask(Operation.ACQUIRE, LOCK, True, None, 1)

    def _deliver(self, host: Host) -> None:
        if self.random.random() < 0.5:
            host.send_up()
            return
        before = self.item(host, self.own(host)) if host in self.memories else 0
        host.take_down()
        if host in self.memories and self.item(host, self.own(host)) < before:
            raise Wrong(f"{host.name}: its own item went back")

    def _look(self, host: Host) -> None:
        for message, _ in host.told:
            if isinstance(message, c.Response) and message.number == self.waits[host]:
                assert message.outcome == Outcome.OK
                self.waits[host], self.inside[host] = None, True

    def _inside(self, host: Host) -> None:
        for other in self.world.hosts:
            if self.item(host, self.own(other)) < self.released[other]:
                raise Wrong(f"{host.name} misses what {other.name} wrote before it released")
        self.put(host, 0, self.item(host, 0) + 1)
        self.added += 1
        self.released[host] = self.item(host, self.own(host))
        host.ask(Operation.RELEASE, LOCK, quiet=True)
        self.inside[host] = False
        self.left[host] -= 1


@pytest.mark.parametrize("seed", range(40))
def test_histories(seed: int) -> None:
    History(seed, faults=False).run()


@pytest.mark.parametrize("seed", range(100, 140))
def test_histories_of_links_that_break_and_brokers_that_die(seed: int) -> None:
    History(seed, faults=True).run()


def _overwrites_what_is_on_its_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Segment, "_is_free", lambda *_: True)


def _leaves_out_grains_it_wrote_last(patch: pytest.MonkeyPatch) -> None:
    def found(memory: ProgramMemory, agent: bytes) -> list[Stale]:
        return [one for one in lacking(memory, agent) if one.grain.writer != agent]

    patch.setattr(memory, "lacking", found)


def _sends_whole_grains(patch: pytest.MonkeyPatch) -> None:
    changed = Segment.changed

    def whole(segment: Segment) -> Iterator[tuple[int, int]]:
        for begin, end in changed(segment):
            yield begin // 64 * 64, min(-(-end // 64) * 64, segment.size)

    patch.setattr(Segment, "changed", whole)


def _does_not_flush_before_a_release(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Mirrors, "leaving", lambda *_: None)


def _brings_nothing_before_an_answer(patch: pytest.MonkeyPatch) -> None:
    bring = Memory.bring

    def late(self: Memory, agent: Agent, program: Program) -> None:
        self._state.timers.at(self._state.now + 0.02, lambda _: bring(self, agent, program))

    patch.setattr(Memory, "bring", late)


def _forgets_nothing_of_a_lost_link(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Memory, "linked", lambda *_: None)


HARMS = [
    (_overwrites_what_is_on_its_way, False),
    (_leaves_out_grains_it_wrote_last, False),
    (_sends_whole_grains, False),
    (_does_not_flush_before_a_release, False),
    (_brings_nothing_before_an_answer, False),
    (_forgets_nothing_of_a_lost_link, True),
]


@pytest.mark.parametrize(("harm", "faults"), HARMS)
def test_each_harm_is_found(
    harm: Callable[[pytest.MonkeyPatch], None], faults: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(monkeypatch)
    with pytest.raises(AssertionError):
        _run_all(range(200), faults=faults)


def _run_all(seeds: Iterable[int], *, faults: bool) -> None:
    for seed in seeds:
        History(seed, faults=faults).run()


def test_what_is_written_to_a_segment_that_is_not_shared_takes_no_room_here() -> None:
    world = World(1)
    host = world.hosts[0]
    host.say(c.Map(PROGRAM, SEGMENT, 0, 2 << 20, ITEM), 7)
    world.settle()
    written = c.Patch(SEGMENT, pack_ranges([(0, ITEM), (1 << 20, (1 << 20) + ITEM)]), [bytes(16)])
    world.tell(Received(host.peer, c.Write(PROGRAM, 99, 0, [written]), ANYBODY))
    assert world.coordinator.memory.segments[SEGMENT].grains == {}
    assert world.coordinator.state.counters["refused_writes"] == 1
    world.coordinator.validate()


def test_a_segment_has_few_names() -> None:
    world = World(1)
    host = world.hosts[0]
    host.say(c.Map(PROGRAM, SEGMENT, 0, 64, ITEM), 7)
    for number in range(names.MAX_NAMES + 1):
        host.ask(Operation.NAME, SEGMENT, str(number), SEGMENT)
    world.settle()
    assert len(world.coordinator.memory.segments[SEGMENT].names) == names.MAX_NAMES


def shared_by_two(size: int) -> tuple[World, Host, Host]:
    """A segment that two hosts have; the second one has loaded it."""
    world = World(2)
    first, second = world.hosts
    first.say(c.Map(PROGRAM, SEGMENT, 0, size, ITEM), 7)
    world.settle()
    first.memories.made[7].memory[:] = bytes(range(256)) * (size // 256)
    second.say(c.Map(PROGRAM, SEGMENT, 0, 0, None))
    world.settle()
    assert bytes(second.memory(SEGMENT) or b"") == bytes(first.memories.made[7].memory)
    return world, first, second


def unread(host: Host) -> int:
    """The bytes that wait on the way to a host."""
    parts = [one.bodies for one in host.down if isinstance(one, c.FetchPart)]
    writes = [one.patches for one in host.down if isinstance(one, c.Write)]
    bodies = [*parts, *(patch.data for patches in writes for patch in patches)]
    return sum(map(total, bodies))


def test_an_agent_that_does_not_read_is_sent_a_bounded_part_of_what_it_asks_for() -> None:
    size = 4 << 20
    world, _, second = shared_by_two(size)
    ask = c.Fetch(SEGMENT, 0, size)
    for number in range(40):
        world.tell(Received(second.peer, c.Fetch(SEGMENT, number, size), ANYBODY))
    assert unread(second) <= pacing.UNREAD_BYTES + size
    assert world.coordinator.state.counters["refused_fetches"] > 0
    # Numbers that it makes up are no answer.
    for number in range(20):
        world.tell(Received(second.peer, m.Pong(number), ANYBODY))
    assert unread(second) <= pacing.UNREAD_BYTES + size
    # As it reads it gets what it has asked for meanwhile, and is as it was in the end.
    world.settle()
    world.tell(Received(second.peer, ask, ANYBODY))
    assert unread(second) == size


def test_agents_of_one_key_do_not_fill_the_broker_together(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 20
    monkeypatch.setattr(pacing, "KEY_UNREAD_BYTES", 4 * size)
    world, first, second = shared_by_two(size)
    for host in (first, second):
        for at in range(4):
            world.tell(Received(host.peer, c.Fetch(SEGMENT, at, size), ANYBODY))
    assert unread(first) + unread(second) <= 5 * size
    while first.take_down() or first.send_up():
        pass
    assert unread(second) > 0, "what one has read makes room for the other"
    world.settle()
    world.coordinator.validate()


def test_an_agent_that_does_not_read_is_not_brought_every_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 256 << 10
    monkeypatch.setattr(pacing, "UNREAD_BYTES", 1 << 20)
    world, first, second = shared_by_two(size)
    memory = first.memories.made[7].memory
    for number in range(1, 20):
        memory[:] = bytes([number]) * size
        for _ in range(2):
            first.happen(events.Tick())
            while first.send_up():
                pass
            world.now += 0.06
            world.tell()
    assert unread(second) <= pacing.UNREAD_BYTES + 2 * size
    for _ in range(4):
        world.settle()
        world.pass_time(0.06)
    world.settle()
    assert bytes(second.memory(SEGMENT) or b"") == bytes(memory)


def test_a_new_link_counts_nothing_of_the_old_one() -> None:
    size = 4 << 20
    world, _, second = shared_by_two(size)
    for number in range(40):
        world.tell(Received(second.peer, c.Fetch(SEGMENT, number, size), ANYBODY))
    second.connect()
    world.settle()
    world.coordinator.validate()
    world.tell(Received(second.peer, c.Fetch(SEGMENT, 0, size), ANYBODY))
    assert unread(second) == size
