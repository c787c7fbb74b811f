"""Tasks go to the nodes that have what they refer to, when that is sooner than to bring it elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, Received, Send
from manyhands_broker.core.dispatch.placement import MOST_WAIT
from manyhands_broker.core.model.stored_value import MAX_PLACES
from manyhands_broker.core.peers.relays.value_relay import ASSUMED_RATE, LATENCY
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.job_options import JobOptions
from manyhands_shared.protocol.public_name import public_name

TOKEN = b"t" * 16
OWNER = public_name(TOKEN)
BIG = 20_000_000
#: Seconds that it takes to bring that.
BRING = LATENCY + 2 * BIG / ASSUMED_RATE


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


class World:
    """A core, a client on host "here", nodes "a", "b", … each on its own, unless told otherwise."""

    def __init__(self, nodes: str, slots: int = 1, **hosts: str) -> None:
        self.core = Core(Limits(), bytes(16), MemoryJournal(), 0.0)
        self.now = 1.0
        for name in nodes:
            info = {"host_id": hosts.get(name, name), "resources": {"gpu": 1.0}}
            self.say(name, m.WorkerHello(1, name, name.encode() * 16, slots, 8192, [], info))
        self.say("client", m.ClientHello(1, TOKEN, "", 0, 0, {"host_id": "here"}))
        self.say("client", m.Function(b"f" * 16, "f", [b"code"]))
        self.next = Counter[str]()

    def say(self, peer: str, message: m.Message) -> list[Any]:
        effects = self.core.handle(Received(peer.encode(), message), self.now)
        self.core.validate()
        return effects

    def submit(
        self, *keys: int, job: str = "j", count: int = 1, size: int = BIG, **options: Any
    ) -> str:
        """Submit tasks that refer to values of `size` bytes; the nodes that get them, in order."""
        first = self.next[job]
        self.next[job] += count
        if keys:
            group = m.InputGroup(job, first, count, b"".join(map(key, keys)), [size] * len(keys))
            self.say("client", m.Inputs([group]))
        options_map = JobOptions(**options).to_map()
        tasks = m.SubmitGroup(job, b"f" * 16, options_map, first, False, [b"x"] * count)
        self.say("client", m.Submit([tasks]))
        return self.drain()

    def drain(self) -> str:
        given = []
        for effect in self.core.handle(Drained(), self.now):
            if isinstance(effect, Send) and isinstance(effect.message, m.Assign):
                for group in effect.message.groups:
                    given += [effect.peer.decode()] * len(group.indices)
        self.core.validate()
        return "".join(given)

    def end(self, name: str, count: int = 1, seconds: float = 0.0) -> str:
        """A node ends `count` of what it holds, which took `seconds` each; who gets what then."""
        node = self.core.state.fleet.by_name[name]
        for _ in range(count):
            chunk = next(iter(node.assigned))
            offset = chunk.holders.index(node)
            attempt, index = chunk.attempts[offset], chunk.base + offset
            group = m.ResultGroup(chunk.job.id, attempt, [index], b"\0", [b""], seconds)
            self.say(name, m.Results(0, [group]))
        return self.drain()

    def bring(self, name: str, *keys: int) -> None:
        """A node asks for values, and gets them."""
        for number in keys:
            self.say(name, m.Want(key(number), OWNER))
            self.say("client", m.Stock(key(number), [b"value"]))

    def measured(self, seconds: float, job: str = "j") -> None:
        """A first task of the job has been seen to take `seconds`."""
        self.end(self.submit(job=job), seconds=seconds)

    @property
    def items(self) -> list[bytes]:
        return [item for shelf in self.core._value_relay._shelves.values() for item in shelf]

    @property
    def counters(self) -> Counter[str]:
        return self.core.state.counters


def test_a_task_goes_where_the_last_one_brought_its_value() -> None:
    world = World("abcd")
    first = world.submit(1)
    world.bring(first, 1)
    world.end(first)
    assert [world.submit(1) + world.end(first) for _ in range(8)] == [first] * 8
    assert world.counters["tasks_placed"] == 8


def test_a_node_that_tells_of_no_slot_is_given_nothing() -> None:
    world = World("ab")
    there = world.submit(1)
    world.bring(there, 1)
    world.end(there)
    world.say(there, m.Renew(1, 0, 8192, []))
    other = "ab".replace(there, "")
    assert [world.submit(1) + world.end(other) for _ in range(4)] == [other] * 4
    world.say(there, m.Renew(2, 1, 8192, []))
    assert {world.submit(2), world.submit(3)} == {there, other}


def test_other_values_go_to_others() -> None:
    world = World("ab")
    places = {number: world.submit(number) for number in (1, 2)}
    assert sorted(places.values()) == ["a", "b"]
    for number, name in places.items():
        world.bring(name, number)
        world.end(name)
    for number in (2, 2, 1, 2, 1, 1):
        assert world.submit(number) == places[number]
        world.end(places[number])


def test_short_tasks_wait_for_their_node_and_no_longer_than_the_value_takes() -> None:
    world = World("ab")
    world.measured(0.02)
    there = world.submit(1)
    other = "ab".replace(there, "")
    world.end(there, seconds=0.02)
    got = Counter(world.submit(1, count=60))
    assert BRING / 0.02 - 1 <= got[there] <= BRING / 0.02 + 2
    assert got[other] > 0, "a free slot is used when the wait would be longer"


def test_however_large_a_value_is_its_tasks_do_not_fill_a_node_for_long() -> None:
    world = World("ab")
    world.measured(0.02)
    there = world.submit(1, size=1 << 40)
    world.bring(there, 1)
    world.end(there, seconds=0.02)
    got = Counter(world.submit(1, count=2_000, size=1 << 40))
    assert MOST_WAIT / 0.02 - 1 <= got[there] <= MOST_WAIT / 0.02 + 2


def test_long_tasks_wait_for_nobody() -> None:
    world = World("ab")
    world.measured(1.0)
    there = world.submit(1)
    world.bring(there, 1)
    world.end(there, seconds=1.0)
    assert sorted(world.submit(1, count=2)) == ["a", "b"]


def test_a_node_that_does_not_get_on_is_not_waited_for() -> None:
    world = World("ab")
    world.measured(0.02)
    there = world.submit(1)
    world.now += 2 * BRING
    other = "ab".replace(there, "")
    assert world.submit(1) == other, "its task takes longer than it should"


def test_what_is_small_is_no_reason_to_wait() -> None:
    world = World("ab")
    world.measured(0.02)
    assert sorted(world.submit(1, count=2, size=1000)) == ["a", "b"]


def test_all_nodes_on_the_clients_host_have_everything() -> None:
    world = World("abc", b="here")
    world.measured(0.02)
    assert world.submit(1) == "b"
    world.end("b")
    assert world.submit(2) == "b"
    world.end("b")
    assert set(world.submit(3, count=60)) == {"a", "b", "c"}


@pytest.mark.parametrize("how", ["leaves", "is short of memory", "drains", "has no such label"])
def test_a_node_that_has_the_value_and_cannot_take_tasks_is_passed_over(how: str) -> None:
    world = World("ab")
    there = world.submit(1)
    world.bring(there, 1)
    world.end(there)
    other = "ab".replace(there, "")
    if how == "leaves":
        world.say(there, m.Bye(""))
    elif how == "is short of memory":
        from manyhands_broker.core import Pressed

        node = world.core.state.fleet.by_name[there]
        world.core.handle(Pressed(node.row, node.boot_id, "memory"), world.now)
    elif how == "drains":
        world.say(there, m.Renew(1, 1, 0, []))
    else:
        info = {"labels": ["none"]}
        world.say(there, m.WorkerHello(1, there, there.encode() * 16, 1, 64, [], info))
        assert world.submit(1, job="k", needs=("rare",)) == other
        return
    assert world.submit(1) == other


def test_resources_are_never_exceeded_for_the_sake_of_a_value() -> None:
    world = World("ab", slots=4)
    there = world.submit(1, resources={"gpu": 1.0})
    other = "ab".replace(there, "")
    assert world.submit(1, resources={"gpu": 1.0}) == other
    assert world.submit(1, resources={"gpu": 1.0}) == ""
    assert world.end(there) == there


def test_a_session_with_a_limit_keeps_to_it() -> None:
    world = World("ab", slots=2)
    world.say("client", m.Bye(""))
    world.say("client", m.ClientHello(1, TOKEN, "", 0, 1, {}))
    world.say("client", m.Function(b"f" * 16, "f", [b"code"]))
    assert len(world.submit(1, count=10)) == 1


def test_waiting_tasks_are_not_called_back_from_where_they_are_better_off() -> None:
    world = World("ab")
    world.measured(0.02)
    there = world.submit(1)
    world.bring(there, 1)
    world.end(there, seconds=0.02)
    world.submit(1, count=5)
    world.now += 0.05  # longer than `recall_after`, shorter than the transfer
    effects = world.core.handle(Drained(), world.now)
    assert not any(isinstance(e, Send) and isinstance(e.message, m.Recall) for e in effects)
    world.now += BRING
    effects = world.core.handle(Drained(), world.now)
    recalls = [e.peer for e in effects if isinstance(e, Send) and isinstance(e.message, m.Recall)]
    assert recalls == [there.encode()], "now it would have been there"


def test_the_rate_is_measured() -> None:
    world = World("ab")
    value_relay = world.core._value_relay
    world.submit(1)
    assert value_relay.seconds(BIG) == BRING
    for number in range(30):
        world.say("a", m.Want(key(1), OWNER))
        world.now += 2.0
        world.say("client", m.Stock(key(1), [b"value"]))
        world.say("a", m.Renew(number + 1, 1, 64, []))
        world.say("b", m.Renew(number + 1, 1, 64, []))
    assert 3.9 < value_relay.seconds(BIG) < 4.1
    assert world.counters["values_relayed"] == 30


def test_nothing_is_kept_of_what_is_over() -> None:
    world = World("ab")
    for number in range(20):
        world.end(world.submit(number, number + 1))
    assert not world.items
    world.submit(1, count=5)
    world.say("a", m.Want(key(1), OWNER))
    world.say("client", m.Stock(key(1), [b"value"]))
    assert world.items == [key(1)]
    world.say("client", m.Cancel([m.Span("j", 0, [])]))
    for name in "ab":
        world.say(name, m.Bye(""))
    assert not world.items
    world.submit(2, job="k", count=3)
    assert world.items == [key(2)]
    world.say("client", m.Bye(""))
    assert not world.items


def test_what_is_said_of_tasks_that_are_over_or_not_there_is_dropped() -> None:
    world = World("ab")
    world.end(world.submit(1))
    again = m.InputGroup("j", 0, 1, key(1), [BIG])
    beyond = m.InputGroup("j", 0, 2**32 - 1, key(1), [BIG])
    unknown = m.InputGroup("nothing", 0, 1, key(1), [BIG])
    for group in (again, beyond, unknown):
        world.say("client", m.Inputs([group]))
        world.say("client", m.Submit([m.SubmitGroup("j", b"f" * 16, None, 0, False, [b"x"])]))
        assert not world.items
    world.say("client", m.Inputs([again]))
    world.say("client", m.Submit([]))
    assert world.submit() in "ab"
    assert not world.items, "it is about one submission"


def test_nobody_can_speak_of_values_of_another() -> None:
    world = World("a")
    world.submit(1, count=3)
    world.say("other", m.ClientHello(1, b"o" * 16, "", 0, 0, {}))
    world.say("other", m.Inputs([m.InputGroup("k", 0, 1, key(1), [5])]))
    options = JobOptions().to_map()
    world.say("other", m.Submit([m.SubmitGroup("k", b"f" * 16, options, 0, False, [b"x"])]))
    assert world.items == [key(1), key(1)], "one each"
    world.say("a", m.Want(key(1), OWNER))
    stock = m.Stock(key(1), [b"value"])
    assert not any(isinstance(e, Send) and e.message == stock for e in world.say("other", stock))
    assert any(isinstance(e, Send) and e.message == stock for e in world.say("client", stock))


def test_a_value_that_is_gone_draws_no_task_to_a_node_that_is_gone() -> None:
    """Its tasks still refer to it, and it remembers the node."""
    world = World("ab")
    there = world.submit(1)
    world.say(there, m.Want(key(1), OWNER))
    world.say("client", m.Stock(key(1), []))
    world.say(there, m.Bye(""))
    other = "ab".replace(there, "")
    assert set(world.drain() + world.submit(2, count=3)) == {other}


def test_places_are_bounded() -> None:
    world = World("")
    for number in range(MAX_PLACES + 40):
        name = chr(500 + number)
        boot = number.to_bytes(16, "big")
        world.say(name, m.WorkerHello(1, name, boot, 1, 64, [], {"host_id": name}))
    assert len(set(world.submit(1, count=MAX_PLACES + 40))) > MAX_PLACES
    (shelf,) = world.core._value_relay._shelves.values()
    assert len(shelf[key(1)].places) == MAX_PLACES


def test_tasks_without_values_are_placed_as_ever_even_among_others() -> None:
    world = World("abcd")
    there = world.submit(1)
    assert sorted(there + world.submit(count=3)) == list("abcd")
    for name in "abcd":
        world.end(name)
    assert world.counters["tasks_placed"] == 0
    assert sorted(world.submit(1) + world.submit(count=3)) == list("abcd")


def test_a_task_that_may_have_waited_for_its_data_is_slow_later() -> None:
    world = World("a", slots=4)
    assert world.submit(1, count=4, speculative=True) == "aaaa"
    group = m.ResultGroup("j", 1, [0, 1, 2], bytes(3), [b""] * 3, 0.03)
    world.say("a", m.Results(1, [group]))
    info = {"host_id": "b"}
    world.say("b", m.WorkerHello(1, "b", b"b" * 16, 1, 8192, [], info))
    job = world.core.state.jobs["j"]
    job.transfer_seconds = 3.0
    given = ""
    while not given and world.now < 10.0:
        world.now += 0.25
        given = world.drain()
    assert given == "b"
    assert 4.5 <= world.now < 5.5
    [value] = job.chunks[0].inputs[3]
    assert value.is_at(world.core.state.fleet.by_name["b"])


def test_while_a_client_is_not_heard_nothing_that_needs_its_values_is_given_out() -> None:
    world = World("a")
    assert world.submit(1) == "a"
    effects = world.say("a", m.Unheard(OWNER))
    assert [effect.message for effect in effects if isinstance(effect, Send)] == [m.Ping(0)]
    world.say("a", m.Returned([m.Span("j", 1, [0])]))
    assert world.drain() == ""
    world.say("client", m.Pong(0))
    assert world.drain() == "a"
    # A new link is a word too.
    world.say("a", m.Unheard(OWNER))
    world.say("a", m.Returned([m.Span("j", 2, [0])]))
    assert world.drain() == ""
    world.say("client", m.ClientHello(1, TOKEN, "", 0, 0, {"host_id": "here"}))
    assert world.drain() == "a"


def test_that_nobody_is_heard_is_no_reason_to_fail() -> None:
    world = World("a")
    assert world.say("a", m.Unheard(b"?" * 16)) == []
