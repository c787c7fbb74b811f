"""Machines that are short of memory or kept busy by others: who finds out, and what they get."""

from __future__ import annotations

from typing import Any

import pytest

from manyhands_broker.core import (
    Core,
    Drained,
    ExpectHeartbeats,
    Limits,
    LinkClosed,
    Pressed,
    Received,
    Send,
)
from manyhands_broker.core.model.machine import LOAD, MEMORY, NONE, Machine
from manyhands_broker.core.queries.explain import reasons
from manyhands_broker.heartbeats import table as lastseen
from manyhands_broker.heartbeats.pressure import Gauges, PressureGauge
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.heartbeat import Beat, encode
from manyhands_shared.protocol.job_options import JobOptions

GIB = 1 << 30
MACHINE = Machine(reserve=GIB, cores=4)
BOOT = b"b" * 16
KEY = bytes(range(32))


def read(
    gauge: PressureGauge, now: float, available: int = 8 * GIB, load: float = 0, own: float = 0
) -> str:
    return gauge.read(now, available, load, own)


def test_memory_is_short_until_there_is_clearly_enough() -> None:
    gauge = PressureGauge(MACHINE)
    assert read(gauge, 0, GIB) == NONE
    assert read(gauge, 1, GIB - 1) == MEMORY
    assert read(gauge, 2, int(1.2 * GIB)) == MEMORY
    assert read(gauge, 3, int(1.25 * GIB)) == NONE
    assert read(gauge, 4, int(1.2 * GIB)) == NONE


def test_without_a_reserve_memory_is_never_short() -> None:
    assert read(PressureGauge(Machine()), 0, 0) == NONE


def test_load_of_others_presses_until_it_is_clearly_gone() -> None:
    gauge = PressureGauge(MACHINE)
    assert [read(gauge, 0, load=load) for load in (2.9, 3.0, 2.1, 1.9, 2.1)] == [
        *(NONE, LOAD, LOAD, NONE, NONE)
    ]


def test_memory_comes_before_load() -> None:
    assert read(PressureGauge(MACHINE), 0, 0, load=40) == MEMORY


def test_the_load_of_its_own_tasks_is_no_pressure_nor_is_what_remains_of_it() -> None:
    """Four slots at work for ten minutes, then none: the load average follows slowly."""
    gauge, load, own = PressureGauge(MACHINE), 0.0, 4.0
    for second in range(1_200):
        own = 4.0 if second < 600 else 0.0
        load += (own - load) / 60.5
        assert read(gauge, float(second), load=load, own=own) == NONE


def gauges() -> tuple[Any, Gauges]:
    table = lastseen.new_table(8)
    lastseen.expect(table, 3, BOOT, KEY, 1.0, 0.0)
    watcher = Gauges(table, 1.0)
    watcher.expect(ExpectHeartbeats(3, BOOT, KEY, MACHINE))
    return table, watcher


def beat(counter: int, available: int) -> bytes:
    return encode(Beat(3, BOOT, counter, counter, 0, 0.0, 0, available, 0.0), KEY)


def test_a_heartbeat_tells_and_only_changes_are_told() -> None:
    table, watcher = gauges()
    assert watcher.check(0.0) == []
    lastseen.take(table, beat(1, 10), 1.0)
    assert watcher.check(1.0) == [Pressed(3, BOOT, MEMORY)]
    lastseen.take(table, beat(2, 10), 2.0)
    assert watcher.check(2.0) == []
    lastseen.take(table, beat(3, 2 * GIB), 3.0)
    assert watcher.check(3.0) == [Pressed(3, BOOT, NONE)]


def test_old_lost_and_reordered_heartbeats_press_nobody() -> None:
    table, watcher = gauges()
    lastseen.take(table, beat(2, 10), 1.0)
    assert watcher.check(1.0) == [Pressed(3, BOOT, MEMORY)]
    lastseen.take(table, beat(1, 2 * GIB), 2.0)  # it was overtaken
    assert watcher.check(2.0) == []
    assert watcher.check(5.9) == []
    assert watcher.check(7.0) == [Pressed(3, BOOT, NONE)], "its figures have expired"
    watcher.forget(3)
    assert watcher.check(99.0) == []


def test_after_a_new_hello_it_is_told_again() -> None:
    table, watcher = gauges()
    lastseen.take(table, beat(1, 10), 1.0)
    assert watcher.check(1.0)
    watcher.expect(ExpectHeartbeats(3, BOOT, KEY, MACHINE))
    assert watcher.check(2.0) == [Pressed(3, BOOT, MEMORY)]


class World:
    """A core with nodes that never answer, and a client."""

    def __init__(self, nodes: str, slots: int = 2) -> None:
        self.core = Core(Limits(unmeasured=0.01), bytes(16), MemoryJournal(), 0.0)
        self.now = 1.0
        for name in nodes:
            info = {"resources": {"gpu": 1.0}, "memory_reserve": GIB}
            hello = m.WorkerHello(1, name, name.encode() * 16, slots, 64, [], info)
            self.say(name, hello)
        self.say("client", m.ClientHello(1, b"t" * 16, "", 0, 0, {}))
        self.say("client", m.Function(b"f" * 16, "f", [b"code"]))

    def say(self, peer: str, message: m.Message) -> None:
        self.tell(Received(peer.encode(), message))

    def tell(self, event: Any) -> list[Any]:
        effects = self.core.handle(event, self.now)
        self.core.validate()
        return effects

    def press(self, name: str, level: str) -> list[Any]:
        node = self.core.state.fleet.by_name[name]
        return self.tell(Pressed(node.row, node.boot_id, level))

    def submit(self, count: int, job: str = "j", **options: Any) -> dict[str, int]:
        """How many of `count` new tasks each node gets."""
        options_map = JobOptions(**options).to_map()
        self.say(
            "client",
            m.Submit([m.SubmitGroup(job, b"f" * 16, options_map, 0, False, [b"x"] * count)]),
        )
        return self.drain()

    def drain(self) -> dict[str, int]:
        given: dict[str, int] = {}
        for effect in self.tell(Drained()):
            if isinstance(effect, Send) and isinstance(effect.message, m.Assign):
                name = effect.peer.decode()
                count = sum(len(group.indices) for group in effect.message.groups)
                given[name] = given.get(name, 0) + count
        return given


def test_a_node_short_of_memory_gets_nothing_while_another_could_take_it() -> None:
    world = World("ab")
    world.press("a", MEMORY)
    assert set(world.submit(1_000)) == {"b"}
    assert world.drain() == {}, "b is busy, and its turn will come"
    job = world.core.state.jobs["j"]
    assert reasons(world.core.state, job)[1:] == [
        "nodes that are short of memory get nothing new: a"
    ]
    world.press("a", NONE)
    assert set(world.drain()) == {"a"}


def test_nor_while_the_others_have_no_room_at_all() -> None:
    world = World("ab")
    world.press("a", MEMORY)
    assert world.submit(1) == {"b": 1}
    world.say("b", m.Results(1, [m.ResultGroup("j", 1, [0], b"\0", [b""], 5.0)]))
    more = m.SubmitGroup("j", b"f" * 16, None, 1, False, [b"x"] * 100)
    world.say("client", m.Submit([more]))
    assert world.drain() == {"b": 2}, "long tasks: nothing waits behind them"
    assert world.drain() == {}


@pytest.mark.parametrize("options", [{}, {"resources": {"gpu": 0.5}}])
def test_where_all_are_short_of_memory_there_is_a_task_for_each_slot(options: Any) -> None:
    world = World("ab")
    for name in "ab":
        world.press(name, MEMORY)
    assert world.submit(1_000, **options) == {"a": 2, "b": 2}
    job = world.core.state.jobs["j"]
    assert "every node that could run it is short of memory" in reasons(world.core.state, job)[1]


@pytest.mark.parametrize("end", ["leaves", "drains", "loses its link"])
def test_one_that_is_short_takes_over_when_the_others_are_gone(end: str) -> None:
    world = World("ab")
    world.press("a", MEMORY)
    assert set(world.submit(40)) == {"b"}
    if end == "leaves":
        world.say("b", m.Bye("done"))
    elif end == "drains":
        world.say("b", m.Renew(1, 2, 0, []))
    else:
        world.tell(LinkClosed(b"b"))
    assert world.drain() == {"a": 2}


def test_one_that_is_short_runs_what_no_other_can() -> None:
    world = World("a")
    world.say("b", m.WorkerHello(1, "b", b"b" * 16, 2, 64, [], {"labels": ["other"]}))
    world.press("a", MEMORY)
    assert world.submit(10, "k", needs=("python-9.9",)) == {"a": 2}
    world.say("a", m.Returned([m.Span("k", 1, [0, 1])]))
    world.say("client", m.Cancel([m.Span("k", 0, [])]))
    assert world.submit(10, "r", resources={"gpu": 0.5}) == {"a": 2}


def test_it_is_told_once_and_seen() -> None:
    world = World("ab")
    world.press("a", MEMORY)
    world.press("a", MEMORY)
    world.press("a", LOAD)
    events = [event for event in world.core.state.events if event["kind"] == "memory-short"]
    assert [(event["node"], "1024 MiB" in event["text"]) for event in events] == [("a", True)]
    from manyhands_broker.core.queries.answers import Reader, answer

    nodes = answer(world.core.state, "nodes", {}, 1.0, Reader("", commands=True))
    assert {node["name"]: node["pressure"] for node in nodes} == {"a": LOAD, "b": NONE}


def test_news_of_an_earlier_life_of_a_node_are_not_its_own() -> None:
    world = World("ab")
    row = world.core.state.fleet.by_name["a"].row
    world.tell(Pressed(row, b"other boot id!!!", MEMORY))
    world.tell(Pressed(77, BOOT, MEMORY))
    assert set(world.submit(100)) == {"a", "b"}


def test_machines_that_others_keep_busy_come_last() -> None:
    world = World("abc", slots=1)
    world.press("a", LOAD)
    assert world.submit(1, "i") == {"b": 1}
    assert world.submit(1, "k") == {"c": 1}
    assert world.submit(1, "l") == {"a": 1}, "an idle slot there is better than a wait"
    assert set(world.submit(200, "m")) == {"b", "c"}, "nothing waits there for its slot"


def test_a_machine_that_others_keep_busy_takes_its_part_of_much() -> None:
    world = World("abc", slots=1)
    world.press("a", LOAD)
    given = world.submit(200)
    assert given["a"] == given["b"] == given["c"]


def test_what_a_hello_says_of_the_machine_is_taken_only_if_it_makes_sense() -> None:
    world = World("")
    infos: list[dict[str, Any]] = [
        {"memory_reserve": -1, "cores": "x"},
        {"memory_reserve": 5, "cores": 3},
    ]
    for number, info in enumerate(infos):
        hello = m.WorkerHello(1, f"n{number}", bytes([number]) * 16, 1, 8, [], info)
        effects = world.core.handle(Received(b"p%d" % number, hello), world.now)
        (watch,) = [effect for effect in effects if isinstance(effect, ExpectHeartbeats)]
        assert watch.machine == [Machine(0, 1), Machine(5, 3)][number]
