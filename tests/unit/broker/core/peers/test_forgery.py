"""What a peer claims to have or to be entitled to is believed only where that can be so."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import World
from harness.worlds.keyed import KeyedWorld, function, key, submit
from manyhands_broker.core import Drained, KeysChanged
from manyhands_shared.protocol import messages as m

ALICE, BOB, NODE = key("alice"), key("bob"), key("node", "worker")
LATER = 61.0  # past the time in which nodes may come back from before the broker's start


def claim(world: World, peer: bytes, *spans: m.Span, **info: Any) -> list[m.Span]:
    return world.node(peer, spans, **info)


@pytest.mark.parametrize("durable", [True, False])
def test_a_worker_cannot_take_queued_tasks_by_claiming_to_run_them(durable: bool) -> None:
    world = World()
    world.client()
    world.wait(LATER)
    world.submit(3, durable=durable)
    assert not claim(world, b"thief", m.Span("job", 5, [0, 1, 2]), labels=["none"])
    world.drain((b"thief", world.result(0, 5, body=b"forged")))
    world.drain((b"client", m.Attach("job")))
    assert world.results() == []
    assert world.core.state.jobs["job"].queued == 3
    assert world.core.state.counters["refused_attempts"] == 3


def test_a_node_that_is_too_late_gets_its_task_under_another_number() -> None:
    world = World()
    world.client()
    world.submit(2, durable=True)
    world.restart()
    world.wait(LATER)
    # It is still ending the attempt that it is told to drop.
    assert not claim(world, b"node", m.Span("job", 1, [0]), slots=2)
    assert {task: attempt for task, (attempt, _) in world.assigned(b"node").items()} == {
        ("job", 0): 2,
        ("job", 1): 1,
    }


@pytest.mark.parametrize(
    ("options", "info"),
    [
        ({"needs": ["secure"]}, {"labels": ["pickle"]}),
        ({"resources": {"gpu": 1.0}}, {"labels": ["pickle"]}),
    ],
)
def test_after_a_start_it_gets_what_it_could_have_been_given(
    options: dict[str, Any], info: dict[str, Any]
) -> None:
    world = World()
    world.client()
    world.submit(2, **options)
    world.restart()
    assert not claim(world, b"thief", m.Span("job", 1, [0, 1]), **info)
    fitting = {"labels": ["pickle", "secure"], "resources": {"gpu": 2.0}}
    assert claim(world, b"honest", m.Span("job", 1, [0, 1]), **fitting)


def test_after_a_start_the_cores_of_a_node_are_its_slots() -> None:
    world = World()
    world.client()
    world.submit(1, durable=True, resources={"cpus": 1.0})
    world.restart()
    span = m.Span("job", 1, [0])
    assert claim(world, b"honest", span, labels=["pickle"]) == [span]


def test_nor_does_it_by_naming_a_job_that_comes_later() -> None:
    world = World()
    world.client()
    assert claim(world, b"thief", m.Span("job", 1, [0]), labels=["pickle"])
    world.submit(1, needs=["secure"], durable=False)
    world.drain((b"thief", world.result(0, 1, body=b"forged")))
    assert world.results() == []
    assert [span for cancel in world.take(b"thief", m.Cancel) for span in cancel.spans]
    assert world.core.state.jobs["job"].queued == 1


def test_a_node_that_was_given_up_gets_nothing_back_by_its_word() -> None:
    world = World()
    world.client()
    world.wait(LATER)
    world.node(b"node")
    world.submit(1, durable=False)
    [(attempt, _)] = world.assigned().values()
    world.drain((b"node", m.Bye("")))
    assert not claim(world, b"node", m.Span("job", attempt + 1, [0]))
    assert world.assigned(), "it is given it anew"


def test_what_a_node_says_of_others_tasks_is_not_written_down() -> None:
    world = World()
    world.client()
    world.node(b"node")
    world.node(b"liar")
    world.submit(1)
    holder = next(peer for peer in (b"node", b"liar") if world.assigned(peer))
    other = b"liar" if holder == b"node" else b"node"
    world.drain((other, m.Output("job", 1, 0, "forged")), (holder, m.Output("job", 1, 0, "true")))
    world.drain((holder, m.Output("job", 7, 0, "another attempt's")))
    assert [line["text"] for line in world.ask("output", id="job")] == ["true"]
    assert world.core.state.counters["refused_output"] == 2


def test_a_node_that_exaggerates_does_not_make_a_job_look_long() -> None:
    world = World()
    world.client()
    world.node(b"node")
    world.submit(2, durable=False)
    job = world.core.state.jobs["job"]
    world.wait(3.0)
    [(attempt, _), *_] = world.assigned().values()
    world.drain((b"node", m.Results(1, [m.ResultGroup("job", attempt, [0], b"\0", [b"x"], 3e9)])))
    assert job.estimate == pytest.approx(3.0)
    # What it never had is no measure at all.
    world.drain((b"node", m.Results(2, [m.ResultGroup("job", 9, [1], b"\0", [b"x"], 1e-9)])))
    assert job.estimate == pytest.approx(3.0)


@pytest.fixture
def keyed() -> KeyedWorld:
    world = KeyedWorld()
    world.join(b"alice", ALICE)
    world.join(b"bob", BOB)
    world.work(b"node", NODE, 4)
    return world


@pytest.mark.parametrize("durable", [True, False])
def test_a_digest_is_not_enough_to_run_a_function_of_another_key(
    keyed: KeyedWorld, durable: bool
) -> None:
    secret = function(b"closes over a password")
    keyed.say(b"alice", secret, submit("alices", [b""], secret.digest, durable=durable))
    heard = keyed.say(b"bob", submit("bobs", [b""], secret.digest, durable=durable))
    assert [message.digest for message in heard if isinstance(message, m.Need)] == [secret.digest]
    assert {job for job, _ in keyed.assigned()} == {"alices"}
    keyed.say(b"alice", submit("more", [b""], secret.digest, durable=durable))
    assert {job for job, _ in keyed.assigned()} == {"more"}
    keyed.say(b"bob", secret)
    assert {job for job, _ in keyed.assigned()} == {"bobs"}, "who has it may run it"


def test_a_job_can_be_retried_by_its_digest_after_a_restart_by_its_own_key(
    keyed: KeyedWorld,
) -> None:
    code = function(b"mine")
    keyed.say(b"alice", code, submit("job", [b""], code.digest, durable=True))
    for (job, index), (attempt, _) in keyed.assigned().items():
        keyed.say(b"node", keyed.result(index, attempt, job))
    keyed.restart()
    for peer, who in ((b"alice", ALICE), (b"bob", BOB)):
        keyed.join(peer, who)
    keyed.work(b"node", NODE, 4)
    keyed.say(b"bob", submit("stolen", [b""], code.digest, durable=True))
    assert not keyed.assigned()
    keyed.say(b"alice", submit("again", [b""], code.digest, durable=True))
    assert {job for job, _ in keyed.assigned()} == {"again"}


def test_a_new_key_of_an_old_name_is_another_account(keyed: KeyedWorld) -> None:
    code = function(b"mine")
    keyed.say(b"alice", code, submit("job", [b""], code.digest, durable=True))
    for (job, index), (attempt, _) in keyed.assigned().items():
        keyed.say(b"node", keyed.result(index, attempt, job, body=b"secret result"))
    namesake = type(ALICE)("f" * 64, ALICE.name, ALICE.role)
    known = {who.key: who for who in (namesake, BOB, NODE)}
    keyed.do(keyed.core.handle(KeysChanged(known), keyed.now))
    keyed.do(keyed.core.handle(Drained(), keyed.now))
    heard = keyed.join(b"other", namesake)
    heard += keyed.say(b"other", m.Attach("job"), m.Query(1, "forget", {"id": "job"}))
    assert not [message for message in heard if isinstance(message, m.Results)]
    assert [message for message in heard if isinstance(message, m.Detach)]
    [reply] = [message for message in heard if isinstance(message, m.Reply)]
    assert reply.data == m.DENIED
    assert not keyed.ask("job", b"other", id="job").get("mine", True)


def test_a_link_is_one_sessions() -> None:
    world = KeyedWorld(key_sessions=3)
    world.keys[b"alice"] = ALICE
    for number in range(3):
        world.say(b"alice", m.ClientHello(1, bytes([number]) * 16, "", 0, 0, {}))
    assert [session.peer for session in world.core.state.sessions.values()] == [
        None,
        None,
        b"alice",
    ]
    world.wait(61.0)
    assert len(world.core.state.sessions) == 1
