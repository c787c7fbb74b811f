"""Questions about running tasks: to the node that runs them, and the answer back to who asked."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import World
from harness.worlds.keyed import KeyedWorld, function, key, submit
from manyhands_broker.core.peers.relays.inspections import ANSWER_SECONDS, MOST_OF_ASKER
from manyhands_shared.protocol import messages as m

STACK = m.Stack("job", 1, 1, 0, 77, 1, '  File "x.py", line 1 in f\n')


@pytest.fixture
def world() -> World:
    """A client whose job of two tasks runs on a node, and a node that has nothing."""
    made = World()
    made.client()
    made.node()
    made.node(b"other")
    made.submit(2)
    assert set(made.assigned()) | set(made.assigned(b"other")) == {("job", 0), ("job", 1)}
    return made


def put(world: World, what: str, **arguments: Any) -> None:
    world.drain((b"client", m.Query(9, what, arguments)))


def holder(world: World, index: int) -> bytes:
    [piece] = world.core.state.jobs["job"].pieces([index])
    node = piece.chunk.holders[piece.lo]
    assert node is not None
    return node.name.encode()


def test_the_node_that_has_the_task_is_asked(world: World) -> None:
    node = holder(world, 1)
    put(world, "stacks", id="job", task=1)
    assert world.take(b"client", m.Reply) == []
    [order] = world.take(node, m.Inspect)
    assert (order.job, order.indices, order.seconds) == ("job", [1], 0.0)
    # What it tells of other jobs is dropped, for the asker may not know of them.
    foreign = m.Stack("foreign", 1, 1, 1, 78, 1, "secret")
    world.drain((node, m.Inspected(order.request, "", [STACK, foreign], 3)))
    [reply] = world.take(b"client", m.Reply)
    assert (reply.request, reply.error) == (9, "")
    assert reply.data == {
        "node": node.decode(),
        "left_out": 3,
        "stacks": [
            {
                "job": "job",
                "attempt": 1,
                "index": 1,
                "slot": 0,
                "pid": 77,
                "count": 1,
                "text": STACK.text,
            }
        ],
    }


def test_another_node_has_no_say(world: World) -> None:
    node = holder(world, 0)
    put(world, "stacks", id="job", task=0)
    [order] = world.take(node, m.Inspect)
    liar = b"other" if node == b"node" else b"node"
    world.drain((liar, m.Inspected(order.request, "", [STACK], 0)))
    world.drain((node, m.Inspected(order.request + 1, "", [STACK], 0)))
    assert world.take(b"client", m.Reply) == []
    world.drain((node, m.Inspected(order.request, "it is busy", [], 0)))
    [reply] = world.take(b"client", m.Reply)
    assert (reply.error, reply.data) == (f"node {node.decode()}: it is busy", None)
    # Once answered is answered.
    world.drain((node, m.Inspected(order.request, "", [STACK], 0)))
    assert world.take(b"client", m.Reply) == []


def test_a_node_that_does_not_answer_costs_a_sentence(world: World) -> None:
    put(world, "stacks", id="job", on_node="node", seconds=30.0)
    world.wait(30 + ANSWER_SECONDS - 1, b"node", b"other")
    assert world.take(b"client", m.Reply) == []
    world.wait(2, b"node", b"other")
    [reply] = world.take(b"client", m.Reply)
    assert reply.error == "node node has not answered"


def test_what_cannot_be_asked_is_said_at_once(world: World) -> None:
    for index in range(2):
        world.drain((holder(world, index), world.result(index)))
    world.submit(3, "held", resources={"gpu": 1.0})
    for arguments, words in (
        ({"id": "job", "task": 0}, "job is over"),
        ({"id": "none", "task": 0}, "no job 'none'"),
        ({"id": "held", "task": 1}, "task 1 of job held is queued"),
        ({"id": "held", "task": 7}, "is not one of its tasks"),
        ({"id": "held", "on_node": "gone"}, "no node 'gone'"),
        ({"id": "held"}, "takes an argument 'task' or 'on_node'"),
        ({"id": "held", "on_node": "node", "seconds": 61.0}, "0 to 60"),
    ):
        with pytest.raises(LookupError, match=words):
            world.ask("stacks", **arguments)


def test_which_nodes_have_a_job(world: World) -> None:
    names = {holder(world, index).decode() for index in range(2)}
    assert set(world.ask("nodes_of", id="job")) == names


def test_a_node_is_looked_at_as_a_whole(world: World) -> None:
    put(world, "stacks_of_node", node="node")
    [order] = world.take(b"node", m.Inspect)
    assert (order.job, order.indices) == ("", [])
    world.drain((b"node", m.Inspected(order.request, "", [STACK], 0)))
    [reply] = world.take(b"client", m.Reply)
    assert len(reply.data["stacks"]) == 1


def test_questions_that_wait_are_bounded(world: World) -> None:
    for _ in range(MOST_OF_ASKER):
        put(world, "stacks_of_node", node="node")
    assert world.take(b"client", m.Reply) == []
    put(world, "stacks_of_node", node="node")
    [reply] = world.take(b"client", m.Reply)
    assert "ask again" in reply.error
    # An answer that is too long is not passed on.
    order = world.take(b"node", m.Inspect)[0]
    long = m.Stack("job", 1, 1, 0, 77, 1, "x" * 65_000)
    world.drain((b"node", m.Inspected(order.request, "", [long] * 40, 0)))
    [reply] = world.take(b"client", m.Reply)
    assert "more than an answer may have" in reply.error


def test_the_answer_to_a_session_that_has_gone_is_dropped(world: World) -> None:
    put(world, "stacks_of_node", node="node")
    [order] = world.take(b"node", m.Inspect)
    world.drain((b"client", m.Bye("done")))
    world.drain((b"node", m.Inspected(order.request, "", [STACK], 0)))
    assert world.take(b"client", m.Reply) == []


def test_a_page_looks_at_the_jobs_of_its_key_alone() -> None:
    world = KeyedWorld()
    ada, grace = key("ada"), key("grace")
    world.join(b"client", ada)
    world.work(b"node", key("machine", "worker"))
    world.say(b"client", function(), submit("job", [b"x"]))
    told: list[tuple[str, Any]] = []
    arguments = {"id": "job", "on_node": "node"}
    with pytest.raises(LookupError, match="takes an admin's key, or its owner's"):
        world.core.inspect("stacks", arguments, grace, lambda *found: told.append(found))
    with pytest.raises(LookupError, match="takes an admin's key"):
        world.core.inspect("stacks_of_node", {"node": "node"}, ada, lambda *_: None)
    world.core.inspect("stacks", arguments, ada, lambda *found: told.append(found))
    [order] = [one for one in world.say(b"node") if isinstance(one, m.Inspect)]
    assert told == []
    world.say(b"node", m.Inspected(order.request, "", [STACK], 0))
    [(error, found)] = told
    assert (error, found["stacks"][0]["text"]) == ("", STACK.text)
