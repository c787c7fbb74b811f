"""Waits in words, and dead-locks that are told."""

from __future__ import annotations

import itertools

import pytest

from harness.worlds.coordination import CoordinationWorld
from manyhands_broker.coordination.objects.deadlocks import Deadlocks, WaitingThreads
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome

A, B, C = (bytes([letter]) * 16 for letter in b"ABC")
FIRST, SECOND, THIRD = (bytes([letter]) * 16 for letter in b"xyz")


def world_with_locks() -> CoordinationWorld:
    world = CoordinationWorld((A, B, C))
    for key in (FIRST, SECOND, THIRD):
        world.create(Kind.LOCK, key=key)
    return world


def acquire(
    world: CoordinationWorld, member: bytes, key: bytes, thread: int = 1
) -> tuple[bytes, int]:
    return world.ask(member, Operation.ACQUIRE, key, True, None, thread)


def test_two_that_wait_for_each_other_are_told_once_after_ten_seconds() -> None:
    world = world_with_locks()
    acquire(world, A, FIRST)
    acquire(world, B, SECOND)
    acquire(world, A, SECOND)
    acquire(world, B, FIRST)
    world.advance(9.5)
    assert world.notes == []
    world.advance(40)
    (note,) = world.notes
    assert "A (pid 0) waits 10 s for lock 79797979, made at program.py:1" in note
    assert "held by B (pid 0), which waits for lock 78787878" in note
    assert note.endswith("they wait for each other\n")


def test_three_that_wait_in_a_circle_are_found_and_who_waits_for_them_is_not_named() -> None:
    world = world_with_locks()
    world.create(Kind.LOCK, key=b"w" * 16)
    for member, key in ((A, FIRST), (B, SECOND), (C, THIRD)):
        acquire(world, member, key)
    # Another thread of A is outside of the circle.
    acquire(world, A, FIRST, thread=2)
    for member, key in ((A, SECOND), (B, THIRD), (C, FIRST)):
        acquire(world, member, key)
    world.advance(25)
    (note,) = world.notes
    assert note.count("waits") == 3


def test_a_thread_that_takes_its_own_lock_again_is_told() -> None:
    world = world_with_locks()
    acquire(world, A, FIRST)
    acquire(world, A, FIRST)
    world.advance(25)
    (note,) = world.notes
    assert "which it holds itself" in note


def test_threads_of_one_member_wait_for_each_other_only_if_they_do() -> None:
    world = world_with_locks()
    acquire(world, A, FIRST, thread=1)
    acquire(world, A, SECOND, thread=2)
    acquire(world, B, THIRD)
    acquire(world, B, FIRST)
    # Thread 1, which holds the first, waits for nothing.
    acquire(world, A, THIRD, thread=3)
    world.advance(25)
    assert world.notes == []


def test_a_long_wait_for_a_holder_that_lives_is_not_told() -> None:
    world = world_with_locks()
    acquire(world, A, FIRST)
    waits = acquire(world, B, FIRST)
    world.advance(100)
    assert world.notes == []
    assert world.outcome(waits) is None
    world.ask(A, Operation.RELEASE, FIRST)
    assert world.outcome(waits) is Outcome.OK
    world.advance(20)
    # Nothing waits: nothing is looked at.
    assert world.state.timers.next is None


def test_a_wait_for_a_holder_that_is_gone_or_not_heard_from_is_told() -> None:
    world = world_with_locks()
    acquire(world, A, FIRST)
    acquire(world, B, FIRST)
    world.end(A)
    world.notes.clear()
    world.advance(25)
    (note,) = world.notes
    assert "its holder has ended without releasing it" in note


def test_what_a_member_waits_for_is_said_in_words() -> None:
    world = world_with_locks()
    world.create(Kind.QUEUE, 0, key=b"q" * 16)
    acquire(world, A, FIRST)
    acquire(world, B, SECOND)
    acquire(world, A, SECOND)
    acquire(world, B, FIRST)
    world.ask(C, Operation.GET, b"q" * 16, True, None)
    world.now = world.state.now = world.now + 3
    [[wait]] = world.objects.waits([world.members[A]], world.now)
    assert wait == {
        "key": SECOND.hex(),
        "kind": "lock",
        "seconds": 3.0,
        "made": "program.py:1",
        "held_by": "B (pid 0), which waits for lock 78787878, made at program.py:1,"
        " held by A (pid 0): they wait for each other",
    }
    [[wait]] = world.objects.waits([world.members[C]], world.now)
    assert (wait["kind"], wait["held_by"]) == ("an item of queue", "")


def test_a_dead_lock_is_told_after_a_restart_of_the_broker_too() -> None:
    world = world_with_locks()
    acquire(world, A, FIRST)
    acquire(world, A, FIRST)
    world.kill_broker()
    world.advance(25)
    assert len(world.notes) == 1


def test_a_question_about_many_looks_at_those_that_wait_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = world_with_locks()
    for member in (A, B, C):
        acquire(world, member, FIRST)
    looks: list[int] = []
    look = Deadlocks.threads_that_wait

    def counted(deadlocks: Deadlocks) -> WaitingThreads:
        looks.append(1)
        return look(deadlocks)

    monkeypatch.setattr(Deadlocks, "threads_that_wait", counted)
    waits = world.objects.waits([world.members[one] for one in (A, B, C)], world.now)
    assert [one and one[0]["held_by"] for one in waits] == [[], "A (pid 0)", "A (pid 0)"]
    assert len(looks) == 1


def test_a_long_way_of_locks_is_told_in_few_words() -> None:
    members = [bytes([number]) * 16 for number in range(1, 31)]
    world = CoordinationWorld(members)
    for member in members:
        world.create(Kind.LOCK, key=member)
        acquire(world, member, member)
    for member, following in itertools.pairwise(members):
        acquire(world, member, following)
    [[wait]] = world.objects.waits([world.members[members[0]]], world.now)
    assert wait["held_by"].count("which waits for") == 8
    assert wait["held_by"].endswith("and so on")
