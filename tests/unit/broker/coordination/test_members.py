"""Processes: placed once, started once, ended once; whatever is lost on the way."""

from __future__ import annotations

import signal

import pytest

from harness.worlds.coordinator import MEMBER_KEY, PROGRAM, ROOT, AgentsWorld, running, starting
from manyhands_broker.coordination.records import RecordKind
from manyhands_shared.coordination.identity import proof
from manyhands_shared.coordination.kinds import Operation
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c

ONE, TWO, THREE = b"1" * 16, b"2" * 16, b"3" * 16


@pytest.fixture
def world() -> AgentsWorld:
    """A program whose root is on host a; agents on a and b."""
    world = AgentsWorld()
    world.connect("a")
    world.connect("b")
    assert world.begin_program().error == ""
    return world


def test_a_process_is_written_down_then_started_then_forgotten(world: AgentsWorld) -> None:
    host = world.start_process(ONE, node="node-b").host
    assert host == "b"
    assert world.logged_at_start[ONE]
    start = world.last("b", c.Start)
    assert (start.member, start.bodies) == (ONE, [b"work"])
    # The agent there needs the key by which members prove themselves, before.
    kinds = [type(one) for one in world.inbox[b"b"]]
    assert kinds.index(c.Program) < kinds.index(c.Start)
    assert world.last("b", c.Program).member_key == MEMBER_KEY

    world.say("b", c.Began(ONE, 812))
    assert world.last("a", c.Began) == c.Began(ONE, 812)
    assert world.say("b", c.Ended(ONE, 3, "")) == [c.ExitAcknowledged(ONE)]
    assert world.last("a", c.Ended) == c.Ended(ONE, 3, "")
    world.say("a", c.ExitAcknowledged(ONE))
    assert (RecordKind.MEMBER, ONE) not in world.log
    assert ONE not in world.coordinator.state.members


def test_a_repeated_start_is_answered_and_not_obeyed_again(world: AgentsWorld) -> None:
    host = world.start_process(ONE).host
    assert len(world.sent(host, c.Start)) == 1
    again = world.start_process(ONE)
    assert (again.host, again.error) == (host, "")
    assert not world.sent(host, c.Start)
    world.say(host, c.Began(ONE, 9))
    world.inbox.clear()
    world.start_process(ONE)
    assert world.sent("a", c.Began) == [c.Began(ONE, 9)]
    world.say(host, c.Ended(ONE, 0, ""))
    world.inbox.clear()
    world.start_process(ONE)
    assert world.sent("a", c.Ended) == [c.Ended(ONE, 0, "")]


def test_a_start_that_was_lost_with_a_link_is_said_again_to_the_same_agent(
    world: AgentsWorld,
) -> None:
    world.start_process(ONE, node="node-b")
    world.close("b")
    world.inbox.clear()
    world.connect("b", link=b"b2")
    assert [one.member for one in world.sent("b2", c.Start)] == [ONE]


def test_a_start_that_the_agent_has_is_not_said_again(world: AgentsWorld) -> None:
    world.start_process(ONE, node="node-b")
    world.close("b")
    welcome = world.connect("b", starting(ONE), link=b"b2")[0]
    assert isinstance(welcome, c.AgentWelcome)
    assert welcome.keep == ONE
    assert not world.sent("b2", c.Start)


def test_a_process_that_began_while_the_link_was_gone_has_begun(world: AgentsWorld) -> None:
    world.start_process(ONE, node="node-b")
    world.close("b")
    world.connect("b", running(ONE, 77), link=b"b2")
    assert world.last("a", c.Began) == c.Began(ONE, 77)


def test_a_running_process_that_its_agent_does_not_know_is_lost(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.close("b")
    world.connect("b", link=b"b2")
    ended = world.last("a", c.Ended)
    assert (ended.member, ended.code) == (ONE, -9)
    assert "does not know it" in ended.reason


def test_an_end_is_told_again_until_the_parent_knows(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.say("b", c.Ended(ONE, 0, ""))
    world.close("a")
    world.connect("a", running(ROOT), link=b"a2")
    assert world.sent("a2", c.Ended) == [c.Ended(ONE, 0, "")]
    world.say("a2", c.ExitAcknowledged(ONE))
    world.close("a2")
    world.connect("a", running(ROOT), link=b"a3")
    assert not world.sent("a3", c.Ended)


def test_the_agent_of_a_host_is_asked_for_when_the_first_process_is_placed_there() -> None:
    world = AgentsWorld()
    world.connect("a")
    world.begin_program()
    assert world.start_process(ONE, node="node-b").host == "b"
    assert world.sent("node b", c.AgentWanted) == [c.AgentWanted("b")]
    world.connect("b")
    assert world.last("b", c.Start).member == ONE
    assert world.logged_at_start[ONE]


def test_a_process_on_a_host_whose_agent_does_not_start_ends() -> None:
    world = AgentsWorld()
    world.connect("a")
    world.begin_program()
    world.start_process(ONE, node="node-b")
    world.advance(world.limits.agent_wait + 1, renew=("a",))
    ended = world.last("a", c.Ended)
    assert (ended.member, ended.code) == (ONE, -9)
    assert "did not start" in ended.reason

    world.start_process(TWO, node="node-b")
    world.say(b"node b", c.AgentEnded("b", bytes(16), "no descriptors are left"))
    assert world.last("a", c.Ended) == c.Ended(TWO, -9, "no descriptors are left")


def send(number: int, signal_number: int) -> c.Request:
    """Return the root's request to send a process a signal."""
    return c.Request(ROOT, number, 0, ONE, Operation.SIGNAL, True, [int(signal_number)], [])


def test_signals_go_to_the_process_at_once_or_when_its_agent_is_back(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.say("a", send(1, signal.SIGTERM))
    assert world.sent("b", c.Signal) == [c.Signal(ONE, 15)]
    world.close("b")
    world.say("a", send(2, signal.SIGINT))
    world.connect("b", running(ONE), link=b"b2")
    assert world.sent("b2", c.Signal) == [c.Signal(ONE, 2)]


def test_a_signal_that_is_repeated_is_sent_once(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.say("a", send(1, signal.SIGUSR1))
    world.close("a")
    world.connect("a", running(ROOT), link=b"a2")
    world.say("a2", send(1, signal.SIGUSR1))
    assert len(world.sent("b", c.Signal)) == 1
    world.say("a2", send(2, signal.SIGUSR1))
    world.say("a2", send(3, 65))
    assert len(world.sent("b", c.Signal)) == 1


def test_a_signal_comes_from_a_member_of_the_program(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.add_node("c")
    world.connect("c")
    world.say("c", send(1, signal.SIGKILL))
    assert not world.sent("b", c.Signal)


def test_children_of_a_process_that_ended_go_on_and_their_agent_is_told(
    world: AgentsWorld,
) -> None:
    world.run_process(ONE, node="node-b")
    assert world.run_process(TWO, by="b", parent=ONE, node="node-a") == "a"
    world.inbox.clear()
    world.say("b", c.Ended(ONE, 1, ""))
    # Both as the child of the root and as the parent of the other.
    assert [one.member for one in world.sent("a", c.Ended)] == [ONE, ONE]
    world.say("a", c.ExitAcknowledged(ONE))
    world.say("a", c.Ended(TWO, 0, ""))
    assert TWO not in world.coordinator.state.members


def test_output_goes_to_the_root_and_what_it_has_goes_back(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    said = c.ProcessOutput(ONE, PROGRAM, 1, 0, [b"line\n"])
    world.say("b", said)
    assert world.sent("a", c.ProcessOutput) == [said]
    world.say("a", c.OutputTaken(ONE, 1, 5))
    assert world.sent("b", c.OutputTaken) == [c.OutputTaken(ONE, 1, 5)]


def test_an_agent_is_believed_about_its_own_members_alone(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.inbox.clear()
    world.say("a", c.Ended(ONE, 0, ""))
    assert not world.sent("a", c.Ended)
    assert world.coordinator.state.members[ONE].living
    world.say("b", c.Start(TWO, ROOT, PROGRAM, {}, b"", []))
    assert "not a member on this host" in world.last("b", c.Placed).error
    answer = world.say("a", c.Request(ONE, 1, 0, b"k" * 16, 1, False, None, []))
    assert [type(one) for one in answer] == [c.Response]
    world.say("a", c.ProcessOutput(ONE, PROGRAM, 1, 0, [b"x"]))
    assert not world.sent("a", c.ProcessOutput)


def test_a_pools_child_is_a_member_once_it_proves_itself(world: AgentsWorld) -> None:
    [refused] = world.say("b", c.MemberHello(PROGRAM, ONE, bytes(16), 5))
    assert isinstance(refused, c.Placed)
    assert "secret" in refused.error
    answers = world.say("b", c.MemberHello(PROGRAM, ONE, proof(MEMBER_KEY, ONE), 5))
    assert [type(one) for one in answers] == [c.Program]
    assert world.coordinator.state.members[ONE].pid == 5
    world.say("b", c.Ended(ONE, 0, ""))
    assert ONE not in world.coordinator.state.members


def test_a_program_has_as_many_processes_as_it_may(world: AgentsWorld) -> None:
    world.coordinator.state.limits = type(world.limits)(program_members=2)
    assert world.start_process(ONE).error == ""
    assert "the most it may have" in world.start_process(TWO).error


def test_what_has_not_begun_counts_until_it_has(world: AgentsWorld) -> None:
    state = world.coordinator.state
    state.limits = type(world.limits)(coordination_bytes=6)
    assert world.start_process(ONE, node="node-b").error == ""
    assert "--coordination-bytes" in world.start_process(TWO).error
    world.say("b", c.Began(ONE, 5))
    assert state.start_bytes == 0
    assert world.start_process(TWO).error == ""


def test_what_was_placed_outlives_the_broker(world: AgentsWorld) -> None:
    world.start_process(ONE, node="node-b")
    world.run_process(TWO, node="node-b")
    world.restart()
    world.connect("b", starting(ONE), running(TWO))
    assert not world.sent("b", c.Start)
    world.connect("a", running(ROOT))
    world.say("b", c.Began(ONE, 5))
    world.say("b", c.Ended(TWO, 0, ""))
    assert world.last("a", c.Began) == c.Began(ONE, 5)
    assert world.last("a", c.Ended) == c.Ended(TWO, 0, "")


def test_a_start_that_died_with_the_broker_is_obeyed_when_the_parent_repeats_it(
    world: AgentsWorld,
) -> None:
    world.start_process(ONE, node="node-b")
    world.restart()
    world.connect("b")
    assert not world.sent("b", c.Start)
    world.connect("a", running(ROOT))
    placed = world.start_process(ONE, node="node-b")
    assert (placed.host, placed.error) == ("b", "")
    assert len(world.sent("b", c.Start)) == 1


def test_an_end_outlives_the_broker(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.say("b", c.Ended(ONE, 7, ""))
    world.restart()
    world.connect("a", running(ROOT))
    assert world.sent("a", c.Ended) == [c.Ended(ONE, 7, "")]


def test_strangers_are_asked_who_they_are(world: AgentsWorld) -> None:
    assert world.say("absent", c.Began(ONE, 1)) == [m.Who(b"B" * 16)]


def test_an_unstarted_process_whose_parent_is_gone_is_never_started(world: AgentsWorld) -> None:
    world.run_process(ONE, node="node-b")
    world.start_process(TWO, by="b", parent=ONE, node="node-a")
    world.restart()
    world.connect("a", running(ROOT))
    world.connect("b", running(ONE))
    # Nothing has what TWO is started with but the agent of its parent, which says that it has ended.
    world.say("b", c.Ended(ONE, 0, ""))
    assert TWO not in world.coordinator.state.members
    assert not world.sent("a", c.Start)
