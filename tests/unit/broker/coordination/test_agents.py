"""Host agents: a lease is kept or lost, an agent ends, a host has one; roots and their grace."""

from __future__ import annotations

import pytest

from harness.worlds.coordinator import MEMBER_KEY, PROGRAM, ROOT, AgentsWorld, running
from manyhands_broker.coordination import streams
from manyhands_broker.core import Identity, KeysChanged, Stalled
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c

ONE, TWO = b"1" * 16, b"2" * 16
WORKER = Identity("w" * 8, "node key", "worker")
CLIENT = Identity("c" * 8, "user key", "client")


@pytest.fixture
def world() -> AgentsWorld:
    """A program whose root is on host a, with a process on each host."""
    world = AgentsWorld()
    world.connect("a")
    world.connect("b")
    world.begin_program()
    world.run_process(ONE, node="node-a")
    world.run_process(TWO, node="node-b")
    world.inbox.clear()
    return world


def test_a_renewal_is_answered_and_keeps_the_lease(world: AgentsWorld) -> None:
    assert world.say("b", m.Renew(7, 1, 100, [])) == [m.Lease(7)]
    world.advance(60, renew=("a", "b"))
    assert not world.sent("a", c.Ended)


def test_a_host_that_lost_its_lease_loses_its_processes(world: AgentsWorld) -> None:
    world.close("b")
    world.advance(world.limits.lease - 1, renew=("a",))
    assert not world.sent("a", c.Ended)
    world.advance(2, renew=("a",))
    [ended] = world.sent("a", c.Ended)
    assert (ended.member, ended.code) == (TWO, -9)
    assert "lease" in ended.reason
    # It wakes: what it has does not count any more.
    [welcome] = world.connect("b", running(TWO), link=b"b2")
    assert isinstance(welcome, c.AgentWelcome)
    assert welcome.keep == b""


def test_a_stopped_broker_takes_no_lease_for_it(world: AgentsWorld) -> None:
    world.now += 100
    world.take(Stalled(100.0))
    world.advance(2, renew=("a",))
    assert not world.sent("a", c.Ended)
    world.advance(world.limits.lease, renew=("a",))
    assert [one.member for one in world.sent("a", c.Ended)] == [TWO]


def test_the_host_of_the_root_has_the_roots_grace(world: AgentsWorld) -> None:
    world.close("a")
    world.advance(world.limits.session_grace - 1, renew=("b",))
    assert not world.sent("b", c.Signal)
    world.connect("a", running(ROOT), running(ONE), link=b"a2")
    world.advance(world.limits.session_grace, renew=("a2", "b"))
    assert not world.sent("b", c.Signal)
    world.close("a2")
    world.advance(world.limits.session_grace + 1, renew=("b",))
    assert [one.number for one in world.sent("b", c.Signal)] == [15]
    world.advance(world.limits.kill_after, renew=("b",))
    assert [one.number for one in world.sent("b", c.Signal)] == [9]
    world.say("b", c.Ended(TWO, -9, ""))
    assert not world.coordinator.state.programs
    assert not world.log


def test_the_end_of_the_root_ends_the_program_at_once(world: AgentsWorld) -> None:
    world.say("a", c.Ended(ROOT, 0, ""))
    assert world.sent("b", c.Signal) == [c.Signal(TWO, 15)]
    assert world.sent("a", c.Signal) == [c.Signal(ONE, 15)]
    world.say("a", c.Ended(ONE, -15, ""))
    world.say("b", c.Ended(TWO, -15, ""))
    assert not world.coordinator.state.programs
    assert not world.coordinator.state.members
    assert not world.log


def test_an_agent_that_dies_takes_its_processes_but_not_the_root(world: AgentsWorld) -> None:
    world.say(b"node a", c.AgentEnded("a", b"a" * 16, "its host agent died of SIGKILL"))
    member = world.coordinator.state.members
    assert ONE not in member or not member[ONE].living
    assert member[ROOT].living
    world.connect("a", agent=b"n" * 16, link=b"a2")
    world.say("a2", c.Program(PROGRAM, ROOT, "a", MEMBER_KEY, {}))
    assert world.last("a2", c.Placed).error == ""
    [ended] = [one for one in world.inbox[b"a2"] if isinstance(one, c.Ended)]
    assert (ended.member, ended.code, ended.reason) == (ONE, -9, "its host agent died of SIGKILL")
    world.advance(world.limits.session_grace + 1, renew=("a2", "b"))
    assert world.coordinator.state.programs


def test_a_node_speaks_of_the_agent_of_its_own_host_alone(world: AgentsWorld) -> None:
    world.say(b"node b", c.AgentEnded("a", b"a" * 16, ""))
    world.say("b", c.AgentEnded("a", b"a" * 16, ""))
    assert world.coordinator.state.members[ONE].living


def test_a_host_has_one_agent(world: AgentsWorld) -> None:
    assert world.connect("b", agent=b"x" * 16, link=b"rival") == []
    assert world.sent("b", m.Ping)
    world.say("b", m.Pong(0))
    [refused] = world.sent("rival", m.Refused)
    assert refused.code == "agent-taken"
    # The node passes on to it what connects there.
    assert world.sent("node b", c.AgentAt) == [c.AgentAt("@agent-b")]


def test_another_agent_comes_in_when_the_first_has_lost_its_lease(world: AgentsWorld) -> None:
    world.close("b")
    world.connect("b", agent=b"x" * 16, link=b"rival")
    assert not world.sent("rival", c.AgentWelcome)
    world.advance(world.limits.lease + 1, renew=("a",))
    assert world.sent("rival", c.AgentWelcome)


def test_a_draining_node_says_that_its_agent_has_left(world: AgentsWorld) -> None:
    world.say("b", m.Bye("the node drains"))
    [ended] = world.sent("a", c.Ended)
    assert (ended.member, ended.reason) == (TWO, "the node drains")
    assert "b" not in world.coordinator.state.hosting


def test_a_root_of_its_own_agent_ends_with_it() -> None:
    world = AgentsWorld(hosts=("b",))
    world.connect("laptop", node="", capacity=0)
    world.connect("b")
    assert world.begin_program("laptop").error == ""
    # Another root on the same host has an agent of its own.
    world.connect("laptop", node="", capacity=0, agent=b"q" * 16, link=b"other")
    assert world.sent("other", c.AgentWelcome)
    assert world.run_process(ONE, by="laptop") == "b"
    world.say("laptop", m.Bye(""))
    assert world.sent("b", c.Signal) == [c.Signal(ONE, 15)]


@pytest.mark.parametrize(
    ("who", "node", "capacity", "let_in"),
    [
        (WORKER, "node-a", 100, True),
        (CLIENT, "node-a", 100, False),
        (CLIENT, "", 1, False),
        (CLIENT, "", 0, True),
    ],
)
def test_only_a_workers_key_hosts_processes(
    who: Identity, node: str, capacity: int, let_in: bool
) -> None:
    world = AgentsWorld()
    [answer] = world.connect("a", who=who, node=node, capacity=capacity)
    assert isinstance(answer, c.AgentWelcome if let_in else m.Refused)


def test_another_protocol_and_nameless_agents_are_refused() -> None:
    world = AgentsWorld()
    hello = c.AgentHello(m.PROTOCOL_VERSION + 1, "a", "", bytes(16), b"a" * 16, "", 0, [], b"", {})
    [refused] = world.say("a", hello)
    assert isinstance(refused, m.Refused)
    assert refused.code == "protocol"
    [refused] = world.connect("a", agent=bytes(16))
    assert isinstance(refused, m.Refused)
    assert refused.code == "bad-hello"


def test_a_workers_key_registers_only_what_a_client_has_announced() -> None:
    world = AgentsWorld()
    world.connect("a", who=WORKER)
    assert "announced" in world.begin_program().error
    arguments = {"host_id": "a", "program": PROGRAM, "root": ROOT, "member_key": bytes(32)}
    world.coordinator.ask("agent", arguments, CLIENT, "key:cc")
    assert "announced" in world.begin_program().error
    arguments["member_key"] = MEMBER_KEY
    assert world.coordinator.ask("agent", arguments, CLIENT, "key:cc") == {"address": "@agent-a"}
    assert world.begin_program().error == ""
    assert world.coordinator.state.programs[PROGRAM].account == "key:cc"


def test_a_revoked_key_takes_its_agents_and_programs_along() -> None:
    world = AgentsWorld()
    arguments = {"host_id": "a", "program": PROGRAM, "root": ROOT}
    arguments["member_key"] = MEMBER_KEY
    world.connect("a", who=WORKER)
    world.connect("b", who=Identity("v" * 8, "other node", "worker"))
    world.coordinator.ask("agent", arguments, CLIENT, "key:cc")
    world.begin_program()
    world.run_process(ONE, node="node-a")
    world.run_process(TWO, node="node-b")
    keys = {"w" * 8: WORKER, "c" * 8: CLIENT, "v" * 8: Identity("v" * 8, "other node", "worker")}
    del keys["v" * 8]
    world.take(KeysChanged(keys))
    assert [one.code for one in world.sent("b", m.Refused)] == ["revoked"]
    [ended] = world.sent("a", c.Ended)
    assert ended.member == TWO
    del keys["c" * 8]
    world.take(KeysChanged(keys))
    assert world.sent("a", c.Signal) == [c.Signal(ONE, 15)]


def test_the_agents_of_the_log_have_a_lease_to_come_back(world: AgentsWorld) -> None:
    world.restart()
    world.advance(world.limits.lease - 2)
    world.connect("a", running(ROOT), running(ONE))
    world.advance(4, renew=("a",))
    assert [one.member for one in world.sent("a", c.Ended)] == [TWO]


def test_a_program_that_was_ending_goes_on_ending_behind_another_broker(
    world: AgentsWorld,
) -> None:
    world.say("a", c.Ended(ROOT, 0, ""))
    world.restart()
    world.connect("b", running(TWO))
    assert [one.number for one in world.sent("b", c.Signal)] == [15]
    world.advance(world.limits.lease + 2, renew=("b",))
    world.say("b", c.Ended(TWO, -9, ""))
    assert not world.log


def test_an_agent_whose_key_is_revoked_while_it_waits_for_a_place_does_not_get_it() -> None:
    world = AgentsWorld()
    another = Identity("o" * 8, "other key", "worker")
    world.connect("a", who=WORKER)
    world.connect("a", agent=b"z" * 16, link=b"rival", who=another)
    world.take(KeysChanged({WORKER.key: WORKER}))
    assert [one.code for one in world.sent("rival", m.Refused)] == ["revoked"]
    world.close("a")
    assert not world.sent("rival", c.AgentWelcome)


def test_streams_of_one_agent_are_bounded(
    world: AgentsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MAX_STREAMS", 3)
    for number in range(5):
        stream = bytes([number]) * 16
        world.say("a", c.Open(stream, bytes(16), ROOT, PROGRAM, b"b" * 16, c.RECEIVES))
    assert len(world.sent("b", c.Open)) == 3
    assert ["the most" in one.error for one in world.sent("a", c.Opened)] == [True, True]
    # One that is over makes room, but not for more claims than the other agent has answered.
    world.say("a", c.Shut(bytes(16), b"b" * 16, c.FORGOTTEN, 0))
    again = c.Open(b"n" * 16, bytes(16), ROOT, PROGRAM, b"b" * 16, c.RECEIVES)
    world.say("a", again)
    assert not world.sent("b", c.Open)
    world.say("b", c.Opened(bytes(16), b"a" * 16, 0, "it is not here"))
    world.say("a", again)
    assert len(world.sent("b", c.Open)) == 1
    # Nor are there more for what an agent says that it has opened.
    world.say("b", c.Opened(b"o" * 16, b"a" * 16, 0, ""))
    assert [one.way for one in world.sent("b", c.Shut)] == [c.GONE]
