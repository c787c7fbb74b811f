"""What members write comes to the root, and their ends come behind it; whatever is lost on the way."""

from __future__ import annotations

import pytest

from harness.worlds.coordinator import PROGRAM, ROOT, AgentsWorld, running
from manyhands_shared.protocol.messages import coordination as c

ONE, TWO = b"1" * 16, b"2" * 16
ENDED = c.Ended(ONE, 3, "")


def wrote(at: int, data: bytes, stream: int = 1, member: bytes = ONE) -> c.ProcessOutput:
    return c.ProcessOutput(member, PROGRAM, stream, at, [data])


def told(world: AgentsWorld, link: str) -> list[object]:
    """What was sent of output and ends over a link, in its order."""
    found = world.inbox.pop(link.encode(), [])
    return [one for one in found if isinstance(one, c.ProcessOutput | c.Ended)]


@pytest.fixture
def world() -> AgentsWorld:
    """A program whose root is on host a, with a process on host b; an agent on c, too."""
    world = AgentsWorld(("a", "b", "c"))
    for host in "abc":
        world.connect(host)
    assert world.begin_program().error == ""
    world.run_process(ONE, node="node-b")
    world.inbox.clear()
    return world


def test_on_one_link_an_end_goes_on_behind_the_output(world: AgentsWorld) -> None:
    for message in (wrote(0, b"done\n"), wrote(0, b"oh\n", 2), ENDED):
        world.say("b", message)
    assert told(world, "a") == [wrote(0, b"done\n"), wrote(0, b"oh\n", 2), ENDED]


def test_output_that_was_lost_with_the_roots_link_is_asked_for(world: AgentsWorld) -> None:
    world.say("b", wrote(0, b"line\n"))
    world.say("a", c.OutputTaken(ONE, 1, 5))
    world.say("b", wrote(5, b"more\n"))
    world.inbox.clear()
    world.close("a")
    world.connect("a", running(ROOT), link=b"a2")
    assert world.sent("b", c.OutputTaken) == [c.OutputTaken(ONE, 1, 5)]
    world.say("a2", c.OutputTaken(ONE, 1, 10))
    world.close("a2")
    world.connect("a", running(ROOT), link=b"a3")
    # Now it lacks nothing.
    assert world.sent("b", c.OutputTaken) == [c.OutputTaken(ONE, 1, 10)]


def test_an_end_waits_for_output_that_came_when_the_root_had_no_link(world: AgentsWorld) -> None:
    world.close("a")
    world.say("b", wrote(0, b"done\n"))
    assert world.say("b", ENDED) == [c.ExitAcknowledged(ONE)]
    world.connect("a", running(ROOT), link=b"a2")
    assert told(world, "a2") == []
    assert world.sent("b", c.OutputTaken) == [c.OutputTaken(ONE, 1, 0)]
    world.say("b", wrote(0, b"done\n"))
    assert told(world, "a2") == [wrote(0, b"done\n"), ENDED]


def test_an_end_waits_for_output_that_a_link_took_with_it(world: AgentsWorld) -> None:
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    world.close("a")
    world.connect("a", running(ROOT), link=b"a2")
    assert told(world, "a2") == []
    # The answer to its start, which it repeats, does not tell either.
    world.start_process(ONE, by="a2", node="node-b")
    assert told(world, "a2") == []
    world.say("b", wrote(0, b"done\n"))
    assert told(world, "a2") == [wrote(0, b"done\n"), ENDED]


def test_the_roots_word_that_it_has_the_output_lets_the_end_pass(world: AgentsWorld) -> None:
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    world.close("a")
    world.connect("a", running(ROOT), link=b"a2")
    world.say("a2", c.OutputTaken(ONE, 1, 5))
    assert told(world, "a2") == [ENDED]


def test_output_is_not_passed_on_before_what_was_lost(world: AgentsWorld) -> None:
    world.close("a")
    world.say("b", wrote(0, b"one "))
    world.connect("a", running(ROOT), link=b"a2")
    # It was on its way when the agent was asked for the first.
    world.say("b", wrote(4, b"two\n"))
    assert told(world, "a2") == []
    world.say("b", wrote(0, b"one "))
    world.say("b", wrote(4, b"two\n"))
    assert told(world, "a2") == [wrote(0, b"one "), wrote(4, b"two\n")]


def test_an_agent_is_heard_that_was_forgotten_with_its_link(world: AgentsWorld) -> None:
    world.close("a")
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    world.close("b")
    world.connect("a", running(ROOT), link=b"a2")
    world.connect("b", link=b"b2")
    world.say("b2", wrote(0, b"done\n"))
    assert told(world, "a2") == [wrote(0, b"done\n"), ENDED]


def test_an_end_does_not_wait_for_ever(world: AgentsWorld) -> None:
    world.close("a")
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    # As long as the root has no link, its grace decides.
    world.advance(world.limits.output_wait + 1, renew=("b", "c"))
    world.connect("a", running(ROOT), link=b"a2")
    world.close("b")
    world.advance(world.limits.output_wait - 1, renew=("a2", "c"))
    assert told(world, "a2") == []
    world.advance(2, renew=("a2", "c"))
    assert told(world, "a2") == [ENDED]


def test_an_end_with_the_host_waits_for_nothing(world: AgentsWorld) -> None:
    world.close("a")
    world.say("b", wrote(0, b"done\n"))
    world.say(b"node b", c.AgentEnded("b", b"b" * 16, "it died"))
    world.connect("a", running(ROOT), link=b"a2")
    assert told(world, "a2") == [c.Ended(ONE, -9, "it died")]


def test_what_a_member_held_is_given_away_at_once(world: AgentsWorld) -> None:
    world.close("a")
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    member = world.coordinator.state.members[ONE]
    assert not member.living
    assert member not in world.coordinator.state.hosting["b"].members


def test_a_parent_on_a_third_host_hears_of_an_end_behind_the_output(world: AgentsWorld) -> None:
    world.run_process(TWO, by="b", parent=ONE, node="node-c")
    world.inbox.clear()
    ended = c.Ended(TWO, 0, "")
    world.close("a")
    world.say("c", wrote(0, b"done\n", member=TWO))
    world.say("c", ended)
    assert told(world, "b") == []
    world.connect("a", running(ROOT), link=b"a2")
    world.say("c", wrote(0, b"done\n", member=TWO))
    assert told(world, "b") == [ended]


def test_an_orphan_on_the_roots_host_does_not_tell_of_its_parent_before(
    world: AgentsWorld,
) -> None:
    world.run_process(TWO, by="b", parent=ONE, node="node-a")
    world.close("a")
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    world.connect("a", running(ROOT), running(TWO), link=b"a2")
    assert told(world, "a2") == []
    world.say("b", wrote(0, b"done\n"))
    assert told(world, "a2") == [wrote(0, b"done\n"), ENDED]
    # Later links tell both.
    world.say("a2", c.OutputTaken(ONE, 1, 5))
    world.close("a2")
    world.connect("a", running(ROOT), running(TWO), link=b"a3")
    assert set(map(str, told(world, "a3"))) == {str(ENDED)}


# The broker is killed and comes back


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_the_broker_comes_back_and_an_agent_is_first(
    world: AgentsWorld, first: str, when: str
) -> None:
    world.say("b", wrote(0, b"began\n"))
    world.say("a", c.OutputTaken(ONE, 1, 6))
    if when == "behind":
        world.say("b", wrote(6, b"done\n"))
        world.say("b", ENDED)
    world.restart()

    def connect_b() -> None:
        world.connect("b", c.MemberState(ONE, PROGRAM, ROOT, c.ENDED, 5))
        world.say("b", wrote(6, b"done\n"))
        if when == "before":
            world.say("b", ENDED)

    if first == "b":
        connect_b()
    world.connect("a", running(ROOT))
    found = told(world, "a")
    if first == "a":
        connect_b()
        found += told(world, "a")
    else:
        assert found == []
        assert world.sent("b", c.OutputTaken) == [c.OutputTaken(ONE, 1, 6)]
        world.say("b", wrote(6, b"done\n"))
        found = told(world, "a")
    assert found == [wrote(6, b"done\n"), ENDED]


def test_an_end_whose_output_the_root_has_outlives_the_broker(world: AgentsWorld) -> None:
    world.say("b", wrote(0, b"done\n"))
    world.say("b", ENDED)
    world.say("a", c.OutputTaken(ONE, 1, 5))
    world.restart()
    world.connect("a", running(ROOT))
    assert told(world, "a") == [ENDED]


def test_a_receipt_that_comes_again_is_not_passed_on(world: AgentsWorld) -> None:
    for at in (0, 4):
        world.say("b", wrote(at, b"one\n"))
    for until in (4, 8, 4, 8, 8):
        world.say("a", c.OutputTaken(ONE, 1, until))
    assert world.sent("b", c.OutputTaken) == [
        c.OutputTaken(ONE, 1, 4),
        c.OutputTaken(ONE, 1, 8),
    ]


def test_a_receipt_that_was_lost_with_a_link_is_said_again(world: AgentsWorld) -> None:
    world.say("b", wrote(0, b"one\n"))
    world.close("b")
    world.say("a", c.OutputTaken(ONE, 1, 4))
    world.connect("b", running(ONE), link=b"b2")
    told(world, "a")
    world.say("b2", wrote(0, b"one\n"))
    world.say("b2", wrote(4, b"two\n"))
    assert world.sent("b2", c.OutputTaken) == [c.OutputTaken(ONE, 1, 4)]
    assert told(world, "a") == [wrote(4, b"two\n")]
