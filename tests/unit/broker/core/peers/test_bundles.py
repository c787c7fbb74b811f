"""Modules that jobs bring: the broker keeps them as it keeps functions."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.keyed import KeyedWorld, function, key, submit
from manyhands_shared.protocol import messages as m

ALICE, BOB, NODE = key("alice"), key("bob"), key("node", "worker")
CODE, MODULES = function(b"code"), function(b"modules")
BRINGS: dict[str, Any] = {"bundle": MODULES.digest.hex()}


@pytest.fixture
def world() -> KeyedWorld:
    """Two clients and a node."""
    world = KeyedWorld()
    world.join(b"alice", ALICE)
    world.join(b"bob", BOB)
    world.work(b"node", NODE, 8)
    return world


def needs(heard: list[object]) -> list[bytes]:
    """The digests that a client is asked for."""
    return [message.digest for message in heard if isinstance(message, m.Need)]


@pytest.mark.parametrize("durable", [False, True])
def test_job_waits_for_function_and_modules_and_a_node_gets_each_once(
    world: KeyedWorld, durable: bool
) -> None:
    job = submit("job", [b""], CODE.digest, durable=durable, **BRINGS)
    assert needs(world.say(b"alice", job)) == [CODE.digest, MODULES.digest]
    world.say(b"alice", CODE)
    assert not world.assigned()
    world.hear(b"node")
    world.say(b"alice", MODULES)
    assert {job for job, _ in world.assigned()} == {"job"}
    functions = [message for message in world.hear(b"node") if isinstance(message, m.Function)]
    assert functions == [CODE, MODULES]
    other = function(b"other")
    world.say(b"alice", other, submit("more", [b""], other.digest, durable=durable, **BRINGS))
    functions = [message for message in world.hear(b"node") if isinstance(message, m.Function)]
    assert functions == [other]


def test_digest_is_not_enough_to_have_modules_of_another_key(world: KeyedWorld) -> None:
    world.say(b"alice", CODE, MODULES, submit("alices", [b""], CODE.digest, **BRINGS))
    heard = world.say(b"bob", CODE, submit("bobs", [b""], CODE.digest, **BRINGS))
    assert needs(heard) == [MODULES.digest]
    assert {job for job, _ in world.assigned()} == {"alices"}


def test_safe_job_brings_none(world: KeyedWorld) -> None:
    heard = world.say(b"alice", CODE, submit("job", [b""], CODE.digest, safe=True, **BRINGS))
    [refusal] = [message for message in heard if isinstance(message, m.Rejected)]
    assert "a safe job brings no code" in refusal.reason


def test_modules_count_against_the_budget_of_their_key_as_long_as_a_job_needs_them() -> None:
    world = KeyedWorld(function_bytes=1_000_000)
    world.join(b"alice", ALICE)
    large = function(bytes(700_000))
    options: dict[str, Any] = {"bundle": large.digest.hex()}
    for job in ("one", "two"):
        heard = world.say(b"alice", CODE, large, submit(job, [b""], CODE.digest, **options))
        assert not any(isinstance(message, m.Rejected) for message in heard)
    second = function(bytes(600_000))
    refused = submit("three", [b""], CODE.digest, bundle=second.digest.hex())
    heard = world.say(b"alice", refused, second)
    assert any(isinstance(message, m.Rejected) for message in heard)
    world.say(b"alice", m.Cancel([m.Span("one", 0, []), m.Span("two", 0, [])]))
    again = submit("four", [b""], CODE.digest, bundle=second.digest.hex())
    heard = world.say(b"alice", again, second)
    assert not any(isinstance(message, m.Rejected) for message in heard)


def test_durable_job_has_its_modules_after_a_restart_and_so_has_its_repetition(
    world: KeyedWorld,
) -> None:
    world.say(b"alice", CODE, MODULES)
    world.say(b"alice", submit("job", [b"", b""], CODE.digest, durable=True, **BRINGS))
    for (job, index), (attempt, _) in world.assigned().items():
        world.say(b"node", world.result(index, attempt, job))
    waiting: dict[str, Any] = {"needs": ["none"], "durable": True, **BRINGS}
    world.say(b"alice", submit("waits", [b""], CODE.digest, **waiting))
    world.restart()
    for peer, who in ((b"alice", ALICE), (b"bob", BOB)):
        world.join(peer, who)
    world.work(b"node", NODE, 4, labels=["none", "pickle"])
    again = submit("again", [b""], CODE.digest, durable=True, **BRINGS)
    assert needs(world.say(b"alice", again)) == []
    assert {job for job, _ in world.assigned()} == {"again"}
    stolen = submit("stolen", [b""], CODE.digest, durable=True, **BRINGS)
    assert needs(world.say(b"bob", stolen)) == [CODE.digest, MODULES.digest]
    # Nodes of before the restart have had the time to come back.
    world.wait(61.0)
    world.work(b"other", NODE, 4, labels=["none", "pickle"])
    assert "waits" in {job for job, _ in world.assigned()}
