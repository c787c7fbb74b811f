"""Delegated locks between the real cores of broker and agents: what is recalled is passed on once."""

from __future__ import annotations

import pytest

from harness.worlds.memory import PROGRAM, Host, World
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.coordination.rules.lock import SLICE_SECONDS
from manyhands_shared.protocol.messages import Bye
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import events

LOCK, SLOT, THREAD = b"l" * 16, 3, 77


class Delegate:
    """A member, the memory of its locks, and the request by which one is delegated to it."""

    def __init__(self, world: World, host: Host) -> None:
        self.world, self.host = world, host
        descriptor = host.memories.new_descriptor()
        self.words = host.memories.adopt(descriptor, 256).memory.cast("Q")
        host.say(c.LockWords(host.member, 256), descriptor)

    def delegated(self) -> int:
        """Take the lock until it is delegated; return the request."""
        for _ in range(10):
            number = self.ask()
            self.world.settle()
            answer = answers(self.host)[number]
            assert answer.outcome == Outcome.OK
            if len(answer.arguments) > 1:
                return number
            self.host.ask(Operation.RELEASE, LOCK, quiet=True)
        raise AssertionError("it is never delegated")

    def ask(self) -> int:
        """Ask for the lock."""
        self.words[2 * SLOT], self.words[2 * SLOT + 1] = THREAD, 0
        return self.host.ask(Operation.DELEGATE, LOCK, True, None, THREAD, SLOT)

    def release(self) -> None:
        """Release it without a word."""
        self.words[2 * SLOT] = 0

    @property
    def is_recalled(self) -> bool:
        """Whether it was called back."""
        return bool(self.words[2 * SLOT + 1])


def answers(host: Host) -> dict[int, c.Response]:
    """Return what the member was answered, the last of each request."""
    return {one.number: one for one, _ in host.told if isinstance(one, c.Response)}


@pytest.fixture
def world() -> World:
    made = World(2)
    made.hosts[0].ask(Operation.CREATE, LOCK, int(Kind.LOCK), [], "")
    made.settle()
    return made


@pytest.fixture
def there(world: World) -> Delegate:
    return Delegate(world, world.hosts[1])


def wait(world: World) -> int:
    """Have the root ask for the lock."""
    number = world.hosts[0].ask(Operation.ACQUIRE, LOCK, True, None, 1)
    world.settle()
    return number


def has(world: World, number: int) -> bool:
    """Whether the root has the lock."""
    world.settle()
    return number in answers(world.hosts[0])


def abandoned(world: World, number: int) -> bool:
    """Whether the root was told that the holder before it had died."""
    return bool(answers(world.hosts[0])[number].arguments[0])


def test_one_that_no_thread_has_is_given_to_another_host(world: World, there: Delegate) -> None:
    there.delegated()
    there.release()
    number = wait(world)
    assert has(world, number)
    assert there.is_recalled
    # Its process notices that later, and returns what it does not have any more.
    there.host.ask(Operation.RETURN, LOCK, number, quiet=True)
    world.settle()
    waits = there.ask()
    world.settle()
    assert waits not in answers(there.host)


@pytest.mark.parametrize("malformed", [False, True])
def test_the_late_return_of_an_earlier_delegation_ends_no_later_one(
    world: World, there: Delegate, malformed: bool
) -> None:
    earlier = there.delegated()
    there.release()
    number = wait(world)
    assert has(world, number)
    world.hosts[0].ask(Operation.RELEASE, LOCK, quiet=True)
    # Another thread of that process has the lock by now. The one that had it gives it back only then.
    later = there.delegated()
    assert later != earlier
    there.host.ask(Operation.RETURN, LOCK, *([] if malformed else [earlier]), quiet=True)
    number = wait(world)
    world.pass_time(SLICE_SECONDS)
    assert there.is_recalled
    assert not has(world, number)
    there.release()
    there.host.ask(Operation.RETURN, LOCK, later, quiet=True)
    assert has(world, number)
    assert not abandoned(world, number)


def test_one_that_a_thread_has_is_returned_by_its_process(world: World, there: Delegate) -> None:
    taken = there.delegated()
    number = wait(world)
    assert not has(world, number)
    assert there.is_recalled
    there.release()
    assert not has(world, number)
    there.host.ask(Operation.RETURN, LOCK, taken, quiet=True)
    assert has(world, number)
    assert not abandoned(world, number)


def test_a_process_that_is_killed_without_the_lock_has_not_abandoned_it(
    world: World, there: Delegate
) -> None:
    there.delegated()
    there.release()
    there.host.happen(events.Closed(-1))
    number = wait(world)
    assert has(world, number)
    assert not abandoned(world, number)


def test_a_process_that_is_killed_with_the_lock_has(world: World, there: Delegate) -> None:
    there.delegated()
    there.host.happen(events.Closed(-1))
    number = wait(world)
    assert has(world, number)
    assert abandoned(world, number)


def test_a_process_that_ends_with_the_lock_leaves_it_locked(world: World, there: Delegate) -> None:
    there.delegated()
    there.host.say(Bye(""))
    there.host.happen(events.Closed(-1))
    number = wait(world)
    assert not has(world, number)
    root = world.hosts[0]
    released = root.ask(Operation.RELEASE, LOCK)
    assert has(world, number)
    assert answers(root)[released].outcome == Outcome.OK


def test_a_recall_survives_a_lost_link_and_the_broker_s_restart(
    world: World, there: Delegate
) -> None:
    there.delegated()
    there.release()
    number = world.hosts[0].ask(Operation.ACQUIRE, LOCK, True, None, 1)
    while world.hosts[0].send_up():
        pass
    there.host.connect()
    assert has(world, number)


def test_a_restarted_broker_knows_what_is_delegated(world: World, there: Delegate) -> None:
    there.delegated()
    there.release()
    world.restart()
    world.settle()
    number = wait(world)
    assert has(world, number)


def test_what_is_called_back_before_its_answer_has_come_is_returned(
    world: World, there: Delegate
) -> None:
    for _ in range(3):
        there.ask()
        there.host.ask(Operation.RELEASE, LOCK, quiet=True)
    taken = there.ask()
    while there.host.send_up():
        pass
    # The answer that delegates it is lost with the link, and the lock is wanted before it comes again.
    number = world.hosts[0].ask(Operation.ACQUIRE, LOCK, True, None, 1)
    while world.hosts[0].send_up():
        pass
    there.host.connect()
    world.settle()
    assert answers(there.host)[taken].arguments == [False, 0.0]
    assert there.is_recalled
    there.release()
    there.host.ask(Operation.RETURN, LOCK, taken, quiet=True)
    assert has(world, number)
    assert not abandoned(world, number)


def test_an_answer_that_comes_late_does_not_delegate_what_was_called_back(
    world: World, there: Delegate
) -> None:
    taken = there.delegated()
    asked = c.Request(
        there.host.member, taken, 0, LOCK, Operation.DELEGATE, False, [True, None, THREAD, SLOT], []
    )
    # Another agent, which knows of no lock, hears the recall before the request that had it delegated.
    there.host.core._delegations._of.clear()
    number = wait(world)
    there.host.say(asked)
    world.settle()
    assert answers(there.host)[taken].arguments == [False]
    there.host.ask(Operation.RELEASE, LOCK, quiet=True)
    assert has(world, number)


def test_without_words_nothing_is_delegated(world: World) -> None:
    host = world.hosts[1]
    for _ in range(10):
        number = host.ask(Operation.DELEGATE, LOCK, True, None, THREAD, SLOT)
        host.ask(Operation.RELEASE, LOCK, quiet=True)
        world.settle()
        assert answers(host)[number].arguments == [False]


def test_words_that_make_no_sense_are_refused(world: World) -> None:
    host = world.hosts[1]
    for size in (0, 8, 1 << 30):
        host.say(c.LockWords(host.member, size), 700)
    host.say(c.LockWords(host.member, 256))
    assert host.core._programs.dropped == 4
    assert PROGRAM in host.core._tables.programs


def test_what_was_said_before_a_recall_comes_before_the_lock(world: World, there: Delegate) -> None:
    taken = there.delegated()
    number = wait(world)
    # While all that it had said is read, its return is: the lock is not given back a second time.
    there.host.ask(Operation.RETURN, LOCK, taken, quiet=True)
    there.host.happen(events.ReadAll(there.host.member, LOCK, taken, 0))
    assert has(world, number)
    assert world.hosts[0].core.members == 0


def sliced(there: Delegate) -> int:
    """Take the lock again and again until it is delegated for a slice of time; return the request."""
    for _ in range(10):
        number = there.ask()
        there.world.settle()
        answer = answers(there.host)[number]
        if answer.arguments[1:] == [SLICE_SECONDS]:
            return number
        if len(answer.arguments) > 1:
            there.release()
            there.host.ask(Operation.RETURN, LOCK, number, quiet=True)
        else:
            there.host.ask(Operation.RELEASE, LOCK, quiet=True)
    raise AssertionError("it gets no slice")


def test_a_slice_of_time_is_over_before_the_lock_is_called_back(
    world: World, there: Delegate
) -> None:
    sliced(there)
    there.release()
    number = wait(world)
    assert not has(world, number)
    assert not there.is_recalled
    deadline = there.host.core.deadline()
    assert deadline <= world.now + SLICE_SECONDS
    world.pass_time(SLICE_SECONDS)
    assert has(world, number)
    assert there.words[2 * SLOT + 1]


def test_a_slice_ends_with_its_process(world: World, there: Delegate) -> None:
    sliced(there)
    there.release()
    number = wait(world)
    there.host.happen(events.Closed(-1))
    assert has(world, number)
    assert not abandoned(world, number)
    world.pass_time(1.0)


def test_what_is_returned_within_a_slice_is_not_called_back(world: World, there: Delegate) -> None:
    taken = sliced(there)
    number = wait(world)
    there.release()
    there.host.ask(Operation.RETURN, LOCK, taken, quiet=True)
    assert has(world, number)
    world.pass_time(1.0)
    assert not there.is_recalled


def test_a_slice_goes_on_over_another_link_and_another_broker(
    world: World, there: Delegate
) -> None:
    sliced(there)
    there.release()
    number = wait(world)
    there.host.connect()
    world.settle()
    world.restart()
    assert not has(world, number)
    world.pass_time(SLICE_SECONDS)
    assert has(world, number)
