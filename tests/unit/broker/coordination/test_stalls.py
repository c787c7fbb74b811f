"""A broker that did not run for a while: the time counts against no process, and no host."""

from __future__ import annotations

from harness.worlds.coordinator import PROGRAM, ROOT, AgentsWorld, running
from manyhands_broker.core import Stalled
from manyhands_shared.protocol.messages import coordination as c

ONE = b"1" * 16


def stall(world: AgentsWorld, seconds: float) -> None:
    world.now += seconds
    world.take(Stalled(seconds))


def test_a_root_without_a_link_has_its_whole_grace() -> None:
    world = AgentsWorld()
    for host in "ab":
        world.connect(host)
    world.begin_program()
    world.run_process(ONE, node="node-b")
    world.close("a")
    stall(world, 2 * world.limits.session_grace)
    world.advance(world.limits.session_grace - 1, renew=("b",))
    assert not world.sent("b", c.Signal)
    world.advance(2, renew=("b",))
    assert [one.number for one in world.sent("b", c.Signal)] == [15]


def test_an_agent_has_as_long_to_start() -> None:
    world = AgentsWorld()
    world.connect("a")
    world.begin_program()
    world.start_process(ONE, node="node-b")
    stall(world, 2 * world.limits.agent_wait)
    world.advance(world.limits.agent_wait - 1, renew=("a",))
    assert not world.sent("a", c.Ended)
    world.advance(2, renew=("a",))
    assert [one.member for one in world.sent("a", c.Ended)] == [ONE]


def test_output_that_an_end_waits_for_has_as_long_to_come() -> None:
    world = AgentsWorld(("a", "b", "c"))
    for host in "abc":
        world.connect(host)
    world.begin_program()
    world.run_process(ONE, node="node-b")
    world.close("a")
    world.say("b", c.ProcessOutput(ONE, PROGRAM, 1, 0, [b"done\n"]))
    world.say("b", c.Ended(ONE, 3, ""))
    world.connect("a", running(ROOT), link=b"a2")
    world.close("b")
    stall(world, 2 * world.limits.output_wait)
    world.advance(1, renew=("a2", "c"))
    assert not world.sent("a2", c.Ended)
    world.advance(world.limits.output_wait, renew=("a2", "c"))
    assert world.sent("a2", c.Ended) == [c.Ended(ONE, 3, "")]
