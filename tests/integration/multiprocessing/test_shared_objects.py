"""Programs whose processes share locks, events, conditions, barriers and queues over two hosts."""

from __future__ import annotations

import pytest

from harness.cluster.bench import Bench, bench
from harness.cluster.programs import TwoHosts, finished, two_hosts
from harness.processes import eventually

__all__ = ["bench", "two_hosts"]

COUNTING = """
import pathlib, sys
import manyhands.multiprocessing as mp

def count(lock, path, rounds):
    for _ in range(rounds):
        with lock:
            value = int(path.read_text())
            path.write_text(str(value + 1))

path = pathlib.Path(sys.argv[1])
path.write_text("0")
lock = mp.{kind}()
processes = [mp.Process(target=count, args=(lock, path, 25)) for _ in range(8)]
mp.start_all(processes)
for process in processes:
    process.join()
print(path.read_text(), {{process.exitcode for process in processes}})
"""


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Condition"])
def test_one_at_a_time_on_two_hosts(two_hosts: TwoHosts, kind: str) -> None:
    out = two_hosts.run(COUNTING.format(kind=kind), two_hosts.folder / "count")
    assert out == "200 {0}\n"


def test_the_lock_of_a_killed_process_goes_on(two_hosts: TwoHosts) -> None:
    out = two_hosts.run("""
import time, warnings
import manyhands.multiprocessing as mp

def hold(lock, event):
    warnings.simplefilter("ignore")
    lock.acquire()
    event.set()
    time.sleep(60)

lock, events = mp.Lock(), [mp.Event(), mp.Event()]
with lock:
    before = lock.fence
processes = [mp.Process(target=hold, args=(lock, event)) for event in events]
processes[0].start()
events[0].wait()
processes[1].start()
processes[0].kill()
processes[0].join()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    events[1].wait()
    processes[1].terminate()
    with lock:
        print(lock.abandoned, lock.fence > before, processes[0].exitcode)
        print([(str(w.message)[:42], w.filename[-10:], w.lineno) for w in caught])
processes[1].join()
print(lock.abandoned)
""")
    first, warned, last = out.splitlines()
    assert (first, last) == ("True True -9", "False")
    assert warned == "[('the process that held this lock has died: ', 'program.py', 24)]"


def test_a_process_that_ends_with_a_lock_held_leaves_it_locked_and_that_is_said(
    two_hosts: TwoHosts,
) -> None:
    root = two_hosts.start("""
import manyhands.multiprocessing as mp

def hold(lock):
    lock.acquire()

lock = mp.Lock()
process = mp.Process(target=hold, args=(lock,))
process.start()
process.join()
print(lock.acquire(timeout=0.2), lock)
lock.release()
print(lock.acquire(timeout=60))
""")
    out, err = root.communicate(timeout=110)
    assert out == "False <Lock(owner=SomeOtherProcess)>\nTrue\n"
    assert "Process-1 ended and holds a lock, made at " in err
    assert "program.py:7" in err
    assert root.returncode == 0


def test_conditions_and_events_as_in_the_notes(two_hosts: TwoHosts) -> None:
    out = two_hosts.run("""
import manyhands.multiprocessing as mp

def notify(condition, waits):
    waits.wait()
    with condition:
        condition.notify()

def sleep(condition, waits):
    with condition:
        print('Wait')
        waits.set()
        condition.wait()
        print('Exit')

def set_(event, waits):
    waits.wait()
    event.set()

def wait(event, waits):
    print('Wait')
    waits.set()
    event.wait()
    print('Exit')
    event.clear()

condition, event = mp.Condition(), mp.Event()
for functions, shared in (((notify, sleep), condition), ((set_, wait), event)):
    waits = mp.Event()
    processes = [mp.Process(target=function, args=(shared, waits)) for function in functions]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
print(event.is_set())
""")
    assert out == "Wait\nExit\nWait\nExit\nFalse\n"


def test_a_barrier_of_processes_and_one_that_breaks(two_hosts: TwoHosts) -> None:
    out = two_hosts.run("""
import threading
import manyhands.multiprocessing as mp

def meet(barrier, queue):
    try:
        queue.put(barrier.wait(100))
    except threading.BrokenBarrierError:
        queue.put('broken')

barrier, queue = mp.Barrier(4), mp.SimpleQueue()
processes = [mp.Process(target=meet, args=(barrier, queue)) for _ in range(4)]
mp.start_all(processes)
print(sorted(queue.get() for _ in processes))
barrier = mp.Barrier(3)
lost, waits = [mp.Process(target=meet, args=(barrier, queue)) for _ in range(2)]
mp.start_all([lost, waits])
while barrier.n_waiting < 2:  # each look asks the broker
    pass
lost.kill()
print(queue.get(), barrier.broken)
""")
    assert out == "[0, 1, 2, 3]\nbroken True\n"


def test_queues_carry_everything_once_and_in_each_producer_s_order(two_hosts: TwoHosts) -> None:
    out = two_hosts.run("""
import manyhands.multiprocessing as mp

def produce(queue, name):
    for number in range(300):
        queue.put((name, number))

def consume(queue, results):
    taken = []
    while (item := queue.get()) is not None:
        taken.append(item)
        queue.task_done()
    results.put(taken)

queue, results = mp.JoinableQueue(), mp.Queue()
producers = [mp.Process(target=produce, args=(queue, name)) for name in 'abcd']
consumers = [mp.Process(target=consume, args=(queue, results)) for _ in range(3)]
mp.start_all(producers + consumers)
for process in producers:
    process.join()
queue.join()
for _ in consumers:
    queue.put(None)
lists = [results.get() for _ in consumers]
for taken in lists:
    for name in 'abcd':
        numbers = [number for letter, number in taken if letter == name]
        assert numbers == sorted(numbers)
print(sorted(item for taken in lists for item in taken)
      == [(name, number) for name in 'abcd' for number in range(300)])
""")
    assert out == "True\n"


def test_what_a_process_has_taken_does_not_come_again_when_it_is_killed(
    two_hosts: TwoHosts,
) -> None:
    out = two_hosts.run("""
import time
import manyhands.multiprocessing as mp

def take(queue, event):
    queue.get()
    event.set()
    time.sleep(60)

def take_and_end(queue):
    queue.get()

queue = mp.Queue()
for number in range(6):
    queue.put(number)
for _ in range(2):
    event = mp.Event()
    process = mp.Process(target=take, args=(queue, event))
    process.start()
    event.wait()
    process.kill()
    process.join()
    process = mp.Process(target=take_and_end, args=(queue,))
    process.start()
    process.join()
print(queue.qsize(), queue.get(), queue.get(), queue.empty())
""")
    assert out == "2 4 5 True\n"


def test_the_notes_queue_and_one_with_a_bound(two_hosts: TwoHosts) -> None:
    out = two_hosts.run("""
import manyhands.multiprocessing as mp

def reporter(q, ready):
    for i in range(5):
        q.put('Hello, {}'.format(i))
        if i == 1:
            ready.set()
    q.put('the end')

def consumer(q, ready):
    ready.wait()
    while not q.empty():
        text = q.get()
        print(text)
        if text != 'the end':
            # The reporter, which waits for room, puts the next.
            while q.empty():
                pass

for queue in (mp.Queue(), mp.Queue(2)):
    ready = mp.Event()
    processes = [mp.Process(target=target, args=(queue, ready)) for target in (reporter, consumer)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
""")
    said = [*(f"Hello, {number}" for number in range(5)), "the end"]
    assert out.splitlines() == said * 2


def test_shared_objects_travel_in_queues(two_hosts: TwoHosts) -> None:
    out = two_hosts.run("""
import manyhands.multiprocessing as mp

def answer(queue):
    lock, event, replies = queue.get()
    with lock:
        event.set()
    replies.put([lock, event])

queue = mp.Queue()
process = mp.Process(target=answer, args=(queue,))
process.start()
lock, event, replies = mp.RLock(), mp.Event(), mp.SimpleQueue()
queue.put((lock, event, replies))
same_lock, same_event = replies.get()
with lock:
    print(same_lock._semlock is lock._semlock, same_event.is_set(), same_lock.acquire(False))
    same_lock.release()
process.join()
""")
    assert out == "True True True\n"


def test_a_program_on_a_cluster_of_its_own(bench: Bench) -> None:
    from harness.cluster.programs import start_root

    script = bench.folder / "program.py"
    script.write_text(COUNTING.format(kind="Lock"))
    out = finished(start_root([str(script), str(bench.folder / "count")], None))
    assert out == "200 {0}\n"


def test_a_broker_that_is_killed_loses_nothing(two_hosts: TwoHosts) -> None:
    root = two_hosts.start(
        """
import pathlib, sys, time
import manyhands.multiprocessing as mp

def count(lock, path, queue):
    for number in range(100):
        with lock:
            value = int(path.read_text())
            path.write_text(str(value + 1))
        queue.put(number)

path = pathlib.Path(sys.argv[1])
path.write_text("0")
lock, queue = mp.Lock(), mp.Queue()
processes = [mp.Process(target=count, args=(lock, path, queue)) for _ in range(4)]
mp.start_all(processes)
items = sorted(queue.get() for _ in range(400))
for process in processes:
    process.join()
print(path.read_text(), items == sorted([*range(100)] * 4), queue.empty())
""",
        two_hosts.folder / "count",
    )
    count = two_hosts.folder / "count"
    for until in (40, 120, 200, 280):
        eventually(lambda: count.exists() and int(count.read_text() or 0) >= until)  # noqa: B023
        two_hosts.broker.kill()
        two_hosts.broker.start()
    assert finished(root) == "400 True True\n"
