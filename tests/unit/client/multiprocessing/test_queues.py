"""Queues, as programs use them."""

from __future__ import annotations

import multiprocessing as standard_module
import os
import pickle
import select
import threading
import time
import weakref
from collections.abc import Callable
from multiprocessing import queues as standard
from multiprocessing.connection import wait
from queue import Empty, Full
from typing import Any

import numpy as np
import pytest

from harness.brokers.local_broker import Members
from harness.processes import eventually
from harness.threads import Worker, no_thread_left
from manyhands.multiprocessing._objects import feeder
from manyhands.multiprocessing.queues import JoinableQueue, Queue, SimpleQueue
from manyhands.multiprocessing.synchronize import Lock
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_shared.coordination import kinds
from manyhands_shared.coordination.rules import queue as queue_rules


def copied(obj: Any) -> Any:
    return pickle.loads(pickle.dumps(obj))


def test_classes_are_the_standard_library_s(members: Members) -> None:
    assert isinstance(Queue(), standard.Queue)
    assert isinstance(JoinableQueue(), standard.JoinableQueue)
    assert isinstance(SimpleQueue(), standard.SimpleQueue)
    assert SimpleQueue.__class_getitem__(int).__origin__ is SimpleQueue


class CountedQueue(JoinableQueue):
    """What programs write that want a size everywhere: more state in a dict."""

    def __init__(self) -> None:
        super().__init__(3)
        self.counted = Lock()

    def __getstate__(self) -> Any:
        return {"parent": super().__getstate__(), "counted": self.counted}

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state["parent"])
        self.counted = state["counted"]


class NamedQueue(SimpleQueue):
    """The other way: more state behind that of the base."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.forgotten = "a name", "not in the state"

    def __getstate__(self) -> Any:
        return (*super().__getstate__(), self.name)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[:-1])
        self.name = state[-1]


def test_classes_that_derive_from_queues_add_to_their_state(members: Members) -> None:
    counted, named = CountedQueue(), NamedQueue()
    counted.put(1)
    named.put(2)
    counted_2, named_2 = copied((counted, named))
    assert (type(counted_2), type(named_2)) == (CountedQueue, NamedQueue)
    with counted.counted:
        assert not counted_2.counted.acquire(False)
    assert (counted_2._maxsize, named_2.name) == (3, "a name")
    assert not hasattr(named_2, "forgotten")
    assert (counted_2.get(), named_2.get()) == (1, 2)


def test_a_queue_s_marks_for_concurrent_futures_travel(members: Members) -> None:
    queue = Queue()
    queue._ignore_epipe = True
    assert copied(queue)._ignore_epipe


@pytest.mark.parametrize("made", [Queue, JoinableQueue, SimpleQueue])
def test_items_come_in_order_to_any_member(members: Members, made: Callable[[], Any]) -> None:
    queue = made()
    assert queue.empty()
    for item in ("Hello", 1, None, [2, (3,)]):
        queue.put(item)
    assert not queue.empty()
    taken = [queue.get(), copied(queue).get()]
    with members.member("B"):
        taken += [queue.get(), queue.get()]
    assert taken == ["Hello", 1, None, [2, (3,)]]
    worker = Worker(queue.get)
    queue.put("late")
    assert worker.result() == "late"


def test_an_item_is_what_it_was_when_it_was_put(members: Members) -> None:
    queue = Queue()
    array = np.arange(100_000)
    queue.put(array)
    array[:] = 0
    taken = queue.get()
    assert (taken == np.arange(100_000)).all()
    # It is the getter's own.
    taken[0] = 1


def test_who_does_not_want_to_wait_is_told(members: Members) -> None:
    queue = Queue(2)
    with pytest.raises(Empty):
        queue.get_nowait()
    began = time.monotonic()
    with pytest.raises(Empty):
        queue.get(timeout=0.1)
    assert 0.1 <= time.monotonic() - began < 100.0
    queue.put(1)
    queue.put(2, timeout=1)
    assert queue.full()
    with pytest.raises(Full):
        queue.put_nowait(3)
    with pytest.raises(Full):
        queue.put(3, timeout=0.05)
    worker = Worker(lambda: queue.put(3))
    assert [queue.get(), queue.get(), queue.get()] == [1, 2, 3]
    worker.result()
    assert queue.qsize() == 0


def test_sizes_are_the_standard_library_s(members: Members) -> None:
    sizes: list[Any] = [-1, 0, 3, (1 << 31) - 1, np.int64(3), True]
    for made in (Queue, JoinableQueue):
        for size in sizes:
            theirs: Any = standard_module.Queue(size)
            assert made(size)._maxsize == theirs._maxsize
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            made(1.5)  # type: ignore[arg-type]
        with pytest.raises(OverflowError, match="Python int too large to convert to C int"):
            made(1 << 31)
        queue = made(True)
        queue.put(1)
        with pytest.raises(Full):
            queue.put_nowait(2)


def test_what_cannot_be_pickled_is_reported_and_dropped(
    members: Members, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[object] = []

    class Reporting(Queue):
        @staticmethod
        def _on_queue_feeder_error(e: Exception, obj: object) -> None:
            seen.append(obj)

    lock = threading.Lock()
    Reporting().put(lock)
    assert seen == [lock]
    queue = Queue(1)
    queue.put(lock)
    assert "cannot pickle" in capsys.readouterr().err
    queue.put("next", timeout=1)
    assert queue.get() == "next"
    with pytest.raises(TypeError, match="cannot pickle"):
        SimpleQueue().put(lock)


@pytest.mark.parametrize("made", [Queue, JoinableQueue])
def test_a_closed_queue(members: Members, made: Callable[[], Any]) -> None:
    queue = made()
    queue.close()
    queue.join_thread()
    # One that was never used can still be asked.
    assert queue.empty()
    with pytest.raises(ValueError, match="is closed"):
        queue.put("foo")
    with pytest.raises(ValueError, match="is closed"):
        queue.get()
    used = made()
    with pytest.raises(AssertionError, match="not closed"):
        used.join_thread()
    used.put("foo")
    used.close()
    used.join_thread()
    with pytest.raises(OSError, match="is closed"):
        used.empty()


def test_a_simple_queue_is_closed(members: Members) -> None:
    queue = SimpleQueue()
    queue.close()
    queue.close()
    assert queue._reader.closed
    assert queue._writer.closed
    with pytest.raises(OSError, match="is closed"):
        queue.empty()


def test_joining_waits_until_all_is_done(members: Members) -> None:
    queue = JoinableQueue()
    queue.join()
    for item in range(3):
        queue.put(item)
    worker = Worker(queue.join)
    for _ in range(3):
        queue.get()
        assert worker.running
        queue.task_done()
    worker.result()
    with pytest.raises(ValueError, match=r"task_done\(\) called too many times"):
        queue.task_done()


def test_a_producer_without_credit_does_not_block(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "CREDIT_ITEMS", 4)
    monkeypatch.setattr(queue_rules, "MAX_QUEUE_BYTES", 1_000)
    queue = JoinableQueue()
    for item in range(100):
        queue.put(b"%03d" % item + bytes(100))
    assert queue.qsize() == 100
    assert queue._shared.backlog > 0
    taken = [int(queue.get()[:3]) for _ in range(100)]
    assert taken == [*range(100)]
    queue.close()
    queue.join_thread()
    assert queue._shared.backlog == 0
    assert kinds.MAX_QUEUE_BYTES > 1_000


def test_what_is_held_up_is_waited_for_at_the_end_unless_that_is_cancelled(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder, "CREDIT_ITEMS", 1)
    monkeypatch.setattr(queue_rules, "MAX_QUEUE_BYTES", 1)
    queue = Queue()
    reference = weakref.ref(queue._shared)
    for item in range(3):
        queue.put(item)
    ending = Worker(lambda: feeder._flush_at_exit(reference))
    for _ in range(2):
        assert ending.running
        queue.get()
    ending.result()
    assert queue.get() == 2
    for item in (1, 2, 3):
        queue.put(item)
    queue.cancel_join_thread()
    feeder._flush_at_exit(reference)
    assert queue._shared.backlog
    assert [queue.get() for _ in range(3)] == [1, 2, 3]


def test_a_broker_without_room_holds_up_a_producer_and_says_so(
    members: Members, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feeder, "CREDIT_ITEMS", 1)
    monkeypatch.setattr(feeder, "_FULL_SECONDS", 0.01)
    queue, bounded = Queue(), Queue(5)
    members.broker.state.limits = CoordinationLimits(coordination_bytes=5_000)
    queue.put(bytes(4_000))
    with pytest.raises(OSError, match=r"no room for a Queue: .* raise --coordination-bytes"):
        bounded.put(bytes(4_000))
    with pytest.raises(OSError, match="no room for a Lock"):
        Lock().acquire()
    queue.put("held up")
    eventually(lambda: "its items wait here" in capsys.readouterr().err)
    queue.get()
    assert queue.get(timeout=100) == "held up"


def test_an_item_whose_getter_was_killed_before_it_had_it_goes_to_the_next(
    members: Members,
) -> None:
    queue = Queue()
    broker = members.broker
    lost = broker.member("B")
    queue.put("item")
    with broker.changed:
        lost._send(kinds.Operation.GET, queue._shared.key, [True, None], (), quiet=False)
    assert queue.empty()
    broker.end(lost)
    assert queue.get() == "item"


def test_items_outlive_the_broker(members: Members) -> None:
    queue = Queue()
    for item in range(10):
        queue.put(item)
    assert queue.get() == 0
    members.broker.kill()
    waits = [queue.get() for _ in range(9)]
    worker = Worker(queue.get)
    eventually(lambda: bool(members.broker.members[members.broker.root.member].waiting))
    members.broker.kill()
    queue.put("last")
    assert [*waits, worker.result()] == [*range(1, 10), "last"]


@pytest.mark.parametrize("made", [Queue, JoinableQueue, SimpleQueue])
def test_a_reading_end_can_be_waited_for_with_others(
    members: Members, made: Callable[[], Any]
) -> None:
    queue = made()
    reader, quiet = queue._reader, made()._reader
    assert wait([reader, quiet], timeout=0.05) == []
    queue.put("one")
    assert wait([reader, quiet], timeout=100) == [reader]
    with members.member("B"):
        copied(queue).put("two")
    assert [queue.get(), reader.recv()] == ["one", "two"]
    eventually(lambda: not wait([reader], timeout=0), what="nothing is left")
    queue.put("three")
    assert wait([reader], timeout=100) == [reader]


def test_a_reading_end_tells_again_what_others_have_not_taken(members: Members) -> None:
    queue: Any = Queue()
    queue.put(1)
    assert wait([queue._reader], timeout=100)
    with members.member("B"):
        assert copied(queue).get() == 1
    with pytest.raises(Empty):
        queue.get_nowait()
    eventually(lambda: not wait([queue._reader], timeout=0), what="nothing is left")
    queue.put(2)
    assert wait([queue._reader], timeout=100)


def test_a_reading_end_waits_for_an_item(members: Members) -> None:
    queue = SimpleQueue()
    assert not queue._reader.poll(0.05)
    worker = Worker(lambda: queue._reader.poll(60))
    queue.put(1)
    assert worker.result()
    assert queue.get() == 1


def test_ends_that_are_closed_have_no_descriptor(members: Members) -> None:
    queue = SimpleQueue()
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers are wanted
    number, writing = queue._reader.fileno(), queue._writer.fileno()
    assert select.select([], [writing], [], 0)[1]
    queue.close()
    for end in (queue._reader, queue._writer):
        with pytest.raises(OSError, match="closed"):
            end.fileno()
    after = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as said above
    assert not {str(number), str(writing)} & (after - before)


def test_without_a_thread_there_is_no_descriptor_that_tells_of_items(members: Members) -> None:
    queue: Any = Queue()
    with no_thread_left(), pytest.raises(OSError, match="the system gives no thread"):
        queue._reader.fileno()
    queue.put("here")
    assert wait([queue._reader], timeout=100)
    assert queue.get() == "here"


def test_without_a_thread_an_item_is_refused_or_comes(members: Members) -> None:
    queue = Queue()
    queue.put("first")
    assert queue.get() == "first"
    put = 0
    with no_thread_left():
        for number in range(2 * feeder.CREDIT_ITEMS):
            try:
                queue.put(number)
            except OSError as error:
                assert "the system gives no thread" in str(error)  # noqa: PT017 - of many puts
            else:
                assert number == put, "what comes behind an item that was refused is refused too"
                put += 1
    assert 0 < put < 2 * feeder.CREDIT_ITEMS
    queue.put("last")
    assert [queue.get() for _ in range(put + 1)] == [*range(put), "last"]
