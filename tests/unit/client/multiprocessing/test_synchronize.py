"""Locks, semaphores, events, conditions and barriers, as programs use them."""

from __future__ import annotations

import multiprocessing as standard
import pickle
import subprocess
import sys
import threading
import time
from multiprocessing import synchronize as standard_synchronize
from typing import Any

import numpy as np
import pytest

from harness.brokers.local_broker import LocalChannel, Members
from harness.processes import eventually
from harness.threads import Worker
from manyhands.multiprocessing._objects.shared_object import SharedObject, unpickled
from manyhands.multiprocessing._processes import membership
from manyhands.multiprocessing.synchronize import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)
from manyhands_shared.coordination.kinds import Kind, Operation


def copied(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj))


def waiting(channel: LocalChannel, count: int = 1) -> None:
    """Wait until requests of a member wait at the broker."""
    broker = channel.broker
    eventually(lambda: len(broker.members[channel.member].waiting) == count)


def test_classes_and_what_they_print_are_the_standard_library_s(members: Members) -> None:
    lock, recursive = Lock(), RLock()
    assert isinstance(lock, standard_synchronize.Lock)
    assert repr(lock) == "<Lock(owner=None)>"
    with lock, recursive, recursive:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert repr(recursive) == "<RLock(MainProcess, 2)>"
        assert Worker(lambda: repr(lock)).result() == "<Lock(owner=SomeOtherThread)>"
        assert Worker(lambda: repr(recursive)).result() == "<RLock(SomeOtherThread, nonzero)>"
    assert repr(Semaphore(3)) == "<Semaphore(value=3)>"
    assert repr(BoundedSemaphore(2)) == "<BoundedSemaphore(value=2, maxvalue=2)>"
    assert repr(Condition(lock)) == "<Condition(<Lock(owner=None)>, 0)>"
    assert repr(Event()).endswith(" unset>")
    assert repr(Barrier(3)).endswith(": waiters=0/3>")
    with members.member("B") as other:
        other.request(Operation.ACQUIRE, lock._semlock.key, [True, None, 0])
    assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"


def test_errors_are_the_standard_library_s(members: Members) -> None:
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        Lock().release()
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        BoundedSemaphore(1).release()
    with pytest.raises(AssertionError, match="attempt to release recursive lock not owned"):
        RLock().release()
    with pytest.raises(AssertionError, match="must acquire"):
        Condition().wait()
    with pytest.raises(AssertionError, match="lock is not owned"):
        Condition().notify()
    with pytest.raises(OSError, match="Invalid argument"):
        Semaphore(-1)
    for made in (Semaphore, BoundedSemaphore):
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            made(1.5)  # type: ignore[arg-type]
        with pytest.raises(OverflowError, match="Python int too large to convert to C int"):
            made(1 << 31)
    text: Any = "1"
    for wait in (Lock().acquire, Event().wait):
        with pytest.raises(TypeError, match="must be real number, not str"):
            wait(timeout=text)


def test_numbers_may_be_numpy_s_and_true(members: Members) -> None:
    no_time: Any = np.float32(0)
    pairs: list[Any] = [(np.int32(2), np.int64(1)), (2, True)]
    for two, one in pairs:
        assert Semaphore(two).get_value() == 2
        assert BoundedSemaphore(one).acquire(timeout=no_time)
        assert Barrier(one).wait() == 0
        with pytest.raises(ValueError, match="too many times"):
            BoundedSemaphore(one).release()


@pytest.mark.parametrize("parties", [0, -1, 1.5])
def test_a_barrier_that_can_never_open_is_as_the_standard_library_s(
    members: Members, parties: Any
) -> None:
    for made in (standard.Barrier, Barrier):
        if sys.version_info >= (3, 13) and parties < 1:
            with pytest.raises(ValueError, match="parties must be > 0"):
                made(parties)
            continue
        barrier = made(parties)
        assert barrier.parties == parties
        assert barrier.n_waiting == 0
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(0)


def test_a_barrier_of_a_whole_number_opens_whatever_its_type(members: Members) -> None:
    assert Barrier(1.0).wait() == 0  # type: ignore[arg-type]


def test_a_lock_waits_and_times_out(members: Members) -> None:
    lock = Lock()
    assert lock.acquire()
    assert not lock.acquire(False)
    began = time.monotonic()
    assert not lock.acquire(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 100.0
    assert not lock.acquire(True, -1)
    worker = Worker(lock.acquire)
    waiting(members.broker.root)
    # Any thread may release it.
    lock.release()
    assert worker.result() is True


def test_a_recursive_lock_is_its_thread_s(members: Members) -> None:
    lock = RLock()
    with lock, lock:
        assert Worker(lambda: lock.acquire(False)).result() is False
        with pytest.raises(AssertionError):
            Worker(lock.release).result()
    assert Worker(lambda: lock.acquire(False)).result() is True


def test_semaphores_count(members: Members) -> None:
    semaphore = Semaphore(2)
    assert [semaphore.acquire(False) for _ in range(3)] == [True, True, False]
    semaphore.release()
    assert semaphore.get_value() == 1
    assert semaphore.acquire(timeout=0)
    bounded = BoundedSemaphore(0)
    assert not bounded.acquire(False)
    with pytest.raises(ValueError, match="too many times"):
        bounded.release()


def test_a_killed_holder_s_lock_goes_on_and_the_next_holder_is_warned(members: Members) -> None:
    lock = Lock()
    with lock:
        fence = lock.fence
    with members.member("B") as other:
        lock._semlock.request(Operation.ACQUIRE, True, None, 0)
    members.broker.end(other)
    with pytest.warns(RuntimeWarning, match="the process that held this lock has died"):
        lock.acquire()
    assert lock.abandoned
    assert lock.fence > fence
    lock.release()
    assert [lock.abandoned, lock.acquire(), lock.abandoned] == [False, True, False]


def test_where_warnings_are_errors_the_abandoned_lock_is_not_kept(members: Members) -> None:
    lock = Lock()
    with members.member("B") as other:
        lock._semlock.request(Operation.ACQUIRE, True, None, 0)
    members.broker.end(other)
    with pytest.raises(RuntimeWarning), lock:
        pass
    assert lock.acquire(False)


def test_a_condition_wakes_its_sleepers(members: Members) -> None:
    condition = Condition()
    assert isinstance(condition, standard_synchronize.Condition)

    def sleep() -> bool:
        with condition, condition:
            woken = condition.wait(100)
            assert condition._lock._semlock._count() == 2
            return woken

    workers = [Worker(sleep) for _ in range(3)]
    eventually(lambda: condition._sleeping_count.get_value() == 3)
    with condition:
        condition.notify(0)
        condition.notify()
    eventually(lambda: not workers[0].running)
    assert condition._sleeping_count.get_value() == 2
    with condition:
        condition.notify_all()
    assert [worker.result() for worker in workers] == [True, True, True]


def test_a_sleeper_whose_time_is_over_has_the_lock_again(members: Members) -> None:
    condition = Condition(Lock())
    with condition:
        assert condition.wait(0.05) is False
        assert condition.wait_for(lambda: False, 0.05) is False
        assert not Worker(lambda: condition.acquire(False)).result()
    assert condition.acquire(False)


def test_a_killed_sleeper_takes_no_wake_up_with_it(members: Members) -> None:
    condition = Condition()
    lost = members.broker.member("B")

    def sleep_elsewhere() -> None:
        taken = lost.request(Operation.ACQUIRE, condition._lock._semlock.key, [True, None, 0])
        assert taken is not None
        key = condition._lock._semlock.key
        lost.request(Operation.SLEEP, key, [taken.number, condition._key, None, 0])

    with condition:
        pass
    Worker(sleep_elsewhere)
    waiting(lost)
    worker = Worker(lambda: condition.__enter__() and condition.wait(100))
    eventually(lambda: condition._sleeping_count.get_value() == 2)
    members.broker.end(lost)
    with condition:
        condition.notify()
    assert worker.result() is True


def test_a_wait_that_is_interrupted_ends_with_the_lock_held(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    condition = Condition()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with condition:
        monkeypatch.setattr(members.broker.root, "_await", interrupted)
        with pytest.raises(KeyboardInterrupt):
            # Taking the lock again is interrupted too, and then nothing is held.
            condition.wait()
        monkeypatch.undo()
        assert condition._sleeping_count.get_value() == 0
        with pytest.raises(AssertionError):
            condition.release()
        condition.acquire()


def test_a_condition_takes_no_lock_of_another_kind(members: Members) -> None:
    with pytest.raises(TypeError, match=r"not a _?thread(ing)?\.lock"):
        Condition(threading.Lock())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a Condition needs a Lock or RLock of manyhands"):
        Condition(standard.Lock())  # type: ignore[arg-type]


def test_events(members: Members) -> None:
    event = Event()
    assert isinstance(event, standard_synchronize.Event)
    assert event.is_set() is event.wait(0.0) is False
    assert event.wait(0.05) is False
    worker = Worker(event.wait)
    waiting(members.broker.root)
    event.set()
    assert worker.result() is True
    assert event.is_set() is event.wait() is True
    event.clear()
    assert event.is_set() is False


def test_a_barrier_opens_for_all(members: Members) -> None:
    done: list[int] = []
    barrier = Barrier(3, action=lambda: done.append(1))
    assert isinstance(barrier, threading.Barrier)
    workers = [Worker(barrier.wait) for _ in range(2)]
    eventually(lambda: barrier.n_waiting == 2)
    indices = [barrier.wait(), *(worker.result() for worker in workers)]
    assert sorted(indices) == [0, 1, 2]
    assert done == [1]
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def test_a_barrier_breaks(members: Members) -> None:
    barrier = Barrier(2, timeout=0.05)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    barrier.reset()
    worker = Worker(lambda: barrier.wait(100))
    eventually(lambda: barrier.n_waiting == 1)
    barrier.abort()
    with pytest.raises(threading.BrokenBarrierError):
        worker.result()


def test_an_action_that_fails_breaks_the_barrier(members: Members) -> None:
    barrier = Barrier(2, action=lambda: 1 / 0)
    worker = Worker(barrier.wait)
    eventually(lambda: barrier.n_waiting == 1)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    with pytest.raises(threading.BrokenBarrierError):
        worker.result()
    assert barrier.broken


def test_what_is_unpickled_is_the_same_object_here(members: Members) -> None:
    lock, condition, event, barrier = RLock(), Condition(), Event(), Barrier(2)
    lock_2, condition_2, event_2, barrier_2 = map(copied, (lock, condition, event, barrier))
    with lock:
        assert lock_2._semlock is lock._semlock
        assert lock_2.acquire(False)
        lock_2.release()
    with condition:
        condition_2.notify()
        assert copied([condition, condition._lock])[1]._semlock is condition._lock._semlock
    event_2.set()
    assert event.is_set()
    worker = Worker(barrier.wait)
    assert {barrier_2.wait(), worker.result()} == {0, 1}


class NamedEvent(Event):
    """The standard library's event has no pickling of its own: attributes travel."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class NumberedEvent(NamedEvent):
    """It is pickled by its attributes, and so may a class that derives from it do."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "name": "in the state"}


class NamedLock(Lock):
    """More state beside that of the base."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.forgotten = name, "not in the state"

    def __getstate__(self) -> Any:
        return super().__getstate__(), self.name

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.name = state[1]


class NamedBarrier(Barrier):
    """The same of a barrier."""

    name = ""

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self.name)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:-1])
        self.name = state[-1]


def test_classes_that_derive_from_these_add_to_their_state(members: Members) -> None:
    event, numbered, lock, barrier = (
        NamedEvent("e"),
        NumberedEvent("n"),
        NamedLock("l"),
        NamedBarrier(2),
    )
    barrier.name = "b"
    event_2, numbered_2, lock_2, barrier_2 = copied((event, numbered, lock, barrier))
    assert (type(event_2), type(lock_2), type(barrier_2)) == (NamedEvent, NamedLock, NamedBarrier)
    assert (event_2.name, lock_2.name, barrier_2.name) == ("e", "l", "b")
    assert numbered_2.name == "in the state"
    assert not hasattr(lock_2, "forgotten")
    event.set()
    numbered.set()
    with lock:
        assert event_2.is_set()
        assert numbered_2.is_set()
        assert not lock_2.acquire(False)
    barrier.abort()
    assert barrier_2.broken


def test_two_threads_that_unpickle_one_object_have_the_same_and_have_it_whole(
    members: Members,
) -> None:
    state = SharedObject(Kind.EVENT, [], "Event").pickled()
    begun, other_is_done = threading.Event(), threading.Event()

    class Slow(SharedObject):
        whole = False

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            begun.set()
            # It cannot be, as it waits for this one. Without that it is done at once.
            other_is_done.wait(0.2)
            self.whole = True

    def second() -> tuple[Slow, bool]:
        assert begun.wait(100)
        loaded = unpickled(Slow, state)
        was_whole = loaded.whole
        other_is_done.set()
        return loaded, was_whole

    worker = Worker(second)
    first = unpickled(Slow, state)
    assert worker.result() == (first, True)


def test_a_forked_child_unpickles_whatever_a_thread_of_its_parent_does() -> None:
    code = """if True:
        import os, threading
        from manyhands.multiprocessing._objects import shared_object
        held, over = threading.Event(), threading.Event()

        def unpickle():
            with shared_object._unpickling:
                held.set()
                over.wait()

        thread = threading.Thread(target=unpickle)
        thread.start()
        held.wait()
        child = os.fork()
        if not child:
            os._exit(not shared_object._unpickling.acquire(blocking=False))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        over.set()
        thread.join()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_an_object_of_another_program_is_refused(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickles = [pickle.dumps(made) for made in (Lock(), Event(), Barrier(1), Condition())]
    monkeypatch.setattr(membership, "secret", lambda: b"x" * 16)
    for pickled in pickles:
        with pytest.raises(ValueError, match=r"this \w+ belongs to another program"):
            pickle.loads(pickled)


def test_making_an_object_connects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        pytest.fail("connected")

    monkeypatch.setattr(membership, "current", fail)
    made = Lock(), RLock(), Semaphore(), BoundedSemaphore(), Condition(), Event(), Barrier(2)
    del made


def test_an_object_that_no_other_process_knows_goes_with_its_last_reference(
    members: Members,
) -> None:
    def used() -> int:
        return members.broker.state.used_bytes

    with Lock():
        pass
    Event().is_set()
    kept = Lock()
    kept.acquire()
    pickle.dumps(Lock())
    # Ours, and the one whose pickle another process may have.
    kept.release()
    assert used() == 2 * 1024
    del kept
    Event().is_set()
    Event().is_set()
    assert used() == 2 * 1024


def test_everything_goes_on_after_a_kill_of_the_broker(members: Members) -> None:
    lock, event = Lock(), Event()
    lock.acquire()
    locked, set_ = Worker(lock.acquire), Worker(lambda: event.wait(100))
    waiting(members.broker.root, 2)
    members.broker.kill()
    assert locked.running
    lock.release()
    event.set()
    assert locked.result() is True
    assert set_.result() is True
