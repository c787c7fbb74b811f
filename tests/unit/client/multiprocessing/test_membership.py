"""What belongs to a program that has ended begins no other one."""

from __future__ import annotations

import gc
import pickle
import select
import weakref
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from harness.brokers.local_broker import LocalChannel, local_members
from harness.processes import calls_of
from manyhands.multiprocessing._memory import blocks, segments
from manyhands.multiprocessing._memory.segments import Segment
from manyhands.multiprocessing._objects import queue_ends
from manyhands.multiprocessing._processes import ends, membership
from manyhands.multiprocessing._processes.agent_listener import connect
from manyhands.multiprocessing._processes.unsaid import taken
from manyhands.multiprocessing.queues import Queue, SimpleQueue
from manyhands.multiprocessing.shared_memory import SharedMemory
from manyhands.multiprocessing.synchronize import Event, Lock
from manyhands_shared.coordination import pool_child
from manyhands_shared.coordination.kinds import Operation
from manyhands_shared.errors import ConfigError, SharedStateLost
from manyhands_shared.protocol.messages.coordination import CONNECTS
from manyhands_shared.shm.segment import new_file


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each program that would begin; none does."""
    noted: list[str] = []

    def begin() -> None:
        noted.append("a program")
        raise ConfigError("there is no cluster")

    monkeypatch.setattr(membership, "_begin", begin)
    return noted


def test_objects_of_a_program_that_has_ended_are_lost(begun: list[str]) -> None:
    with local_members():
        lock, event, queue = Lock(), Event(), Queue()
        assert lock.acquire()
        event.set()
        queue.put("item")
    for use, label in (
        (lock.release, "Lock"),
        (lock.acquire, "Lock"),
        (event.is_set, "Event"),
        (queue.qsize, "Queue"),
        (lambda: queue.put("more"), "Queue"),
    ):
        with pytest.raises(
            SharedStateLost, match=f"^this {label} was lost: the program has ended$"
        ):
            use()
    ends.withdraw([bytes(16)])
    assert begun == []
    with pytest.raises(ConfigError, match="there is no cluster"):
        Lock().acquire()
    assert begun == ["a program"]


def test_the_thread_that_looks_for_items_begins_no_program(
    begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_ends, "_LOOK_SECONDS", 0.05)
    with local_members():
        queue: Any = Queue()
        queue.put("item")
        descriptor = queue._reader.fileno()
        assert select.select([descriptor], [], [], 100)[0] == [descriptor]
        assert queue.get() == "item"
        assert select.select([descriptor], [], [], 0)[0] == []
    # The thread looks again, and finds no program.
    assert select.select([descriptor], [], [], 100)[0] == [descriptor], "it says so"
    assert begun == []


def test_memory_that_is_left_begins_no_program(begun: list[str]) -> None:
    with local_members() as members:
        segment = Segment(bytes(16), 16, None, new_file(16), members.program.secret)
    segments.sync_writes()
    with pytest.raises(SharedStateLost, match="the program has ended"):
        segment.pass_on()
    assert begun == []
    segment.close_descriptor()


def test_what_was_pickled_in_a_program_that_has_ended_leads_nowhere(begun: list[str]) -> None:
    key = bytes(16)
    with local_members() as members:
        secret, pickled = members.program.secret, pickle.dumps(Lock())
    with pytest.raises(SharedStateLost, match="this Lock was lost: the program has ended"):
        pickle.loads(pickled)
    with pytest.raises(SharedStateLost, match="this connection was lost: the program has ended"):
        ends.claim((key, key, CONNECTS, secret), "connection")
    with pytest.raises(SharedStateLost, match="this shared memory was lost: the program has ended"):
        blocks.find(secret, key, 0, 8)
    with pytest.raises(ConnectionRefusedError, match="the program has ended"):
        connect(f"mh:{key.hex()}{key.hex()}")
    assert begun == []


def test_nothing_is_pickled_for_a_queue_whose_program_has_ended(begun: list[str]) -> None:
    with local_members():
        queues: list[Any] = [Queue(), SimpleQueue()]
        for queue in queues:
            queue.put("item")
    for queue in queues:
        with pytest.raises(SharedStateLost, match="Queue was lost: the program has ended"):
            queue.put(Lock())
    assert begun == []


def test_what_nothing_refers_to_any_more_is_told_to_no_other_program(
    begun: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with local_members():
        left = Event()
        left.set()
    del left
    gc.collect()
    told = calls_of(monkeypatch, LocalChannel, "tell")
    with local_members():
        lock = Lock()
        with lock:
            pass
        assert [operation for _, operation, *_ in told] == [Operation.RELEASE]
        del lock
        gc.collect()
        with Lock():
            pass
    operations = [operation for _, operation, *_ in told]
    assert operations == [Operation.RELEASE, Operation.DISCARD, Operation.RELEASE]
    assert begun == []


def test_memory_that_nothing_refers_to_is_told_to_its_own_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[bytes, bytes]] = []

    def program(secret: bytes) -> Any:
        channel = SimpleNamespace(over=False, poke=lambda: None)
        channel.say = lambda message: told.append((secret, message.segment))
        return SimpleNamespace(secret=secret, id=secret, channel=channel)

    first, second, gone = (program(letter * 16) for letter in (b"a", b"b", b"c"))
    for one in (first, second):
        monkeypatch.setitem(membership._Process.joined, one.secret, one)
    for one in (first, second, gone):
        segment = Segment(one.secret + b"k", 16, None, new_file(16), one.secret)
        del segment
    gc.collect()
    segments.tell_unmapped(second)
    assert told == [(second.secret, second.secret + b"k")]
    segments.tell_unmapped(first)
    assert told[1:] == [(first.secret, first.secret + b"k")]
    assert not segments._unreferenced


def test_threads_may_take_what_finalizers_left_at_the_same_time() -> None:
    class Raced(deque[int]):
        """Another thread has taken one since its length was looked at."""

        def __len__(self) -> int:
            return super().__len__() + 1

    waiting = Raced([1, 2])
    assert list(taken(waiting)) == [1, 2]
    again = deque([1, 2])
    for number in taken(again):
        again.append(number)
    assert list(again) == [1, 2], "each once, though it comes back"


def test_each_program_of_a_pool_s_child_has_a_heap() -> None:
    made = []
    for _ in range(2):
        with local_members():
            made += [blocks.Block.new(8, 8).segment, blocks.Block.new(8, 8).segment]
    assert made[0] is made[1]
    assert made[2] is made[3]
    assert made[1] is not made[2]


def test_a_pool_s_child_keeps_no_heap_without_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    for address, is_kept in (("", True), ("an agent", False)):
        monkeypatch.setattr(pool_child, "agent_address", address)
        with local_members():
            block = blocks.Block.new(8, 8)
            segment = weakref.ref(block.segment)
            del block
            gc.collect()
            assert (segment() is not None) is is_kept


def test_a_name_of_memory_is_of_its_program(begun: list[str]) -> None:
    with local_members() as members:
        memory: Any = SharedMemory.__new__(SharedMemory)
        memory._name, memory._of_system, memory._size = "/some", False, 8
        memory._secret = members.program.secret
        assert members.program.secret in memory.__reduce__()[1]
    with pytest.raises(SharedStateLost, match="the program has ended"):
        memory.unlink()
    assert begun == []


def test_who_asks_for_a_descriptor_hears_why_there_is_no_program(begun: list[str]) -> None:
    queue: Any = Queue()
    with pytest.raises(ConfigError, match="there is no cluster"):
        queue._reader.fileno()
    assert begun == ["a program"]
