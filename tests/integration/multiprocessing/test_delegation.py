"""A lock that one process takes often is delegated to it; processes elsewhere get it still."""

from __future__ import annotations

import pytest

from harness.programs import Run

#: A process on host b takes a lock until that is delegated to it, and then does what it is told.
WORK = """
def work(lock, value, commands, done):
    semlock = lock._semlock
    for _ in range(100):
        with lock:
            value.value += 1
        if semlock._delegation is not None:
            break
    done.put(semlock._delegation is not None)
    while command := commands.get():
        if command == "take":
            lock.acquire()
            value.value += 1
            done.put(value.value)
        elif command == "release":
            value.value += 1
            lock.release()
            done.put(semlock._delegation is None)
        elif command == "often":
            for _ in range(1000):
                with lock:
                    value.value += 1
            done.put(value.value)

lock, value = mp.{kind}(), mp.Value("q", 0, lock=False)
commands, done = mp.Queue(), mp.Queue()
process = mp.Process(target=work, args=(lock, value, commands, done), node="b")
process.start()
print("delegated", done.get())
"""


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_it_is_called_back_and_its_writes_are_seen(apart: Run, kind: str) -> None:
    script = apart(
        WORK.format(kind=kind)
        + """
commands.put("often")
count = done.get()
with lock:
    print(value.value == count, lock.abandoned)
    value.value += 1
commands.put("take")
print(done.get() == count + 2)
print(lock.acquire(False), lock.acquire(timeout=0), lock.acquire(timeout=0.1))
commands.put("release")
print("returned", done.get() in (True, False))
print(lock.acquire(timeout=60), value.value == count + 3)
lock.release()
commands.put("")
process.join()
print(process.exitcode)
"""
    )
    assert script.finish() == (0, "")
    assert script.lines == [
        "delegated True",
        "True False",
        "True",
        "False False False",
        "returned True",
        "True True",
        "0",
    ]


def test_a_process_that_stands_still_without_the_lock_keeps_nobody_waiting(apart: Run) -> None:
    script = apart(
        WORK.format(kind="Lock")
        + """
process.send_signal(signal.SIGSTOP)
print(lock.acquire(timeout=60), lock.abandoned)
lock.release()
process.kill()
process.join()
print(process.exitcode)
"""
    )
    assert script.finish() == (0, "")
    assert script.lines == ["delegated True", "True False", "-9"]


@pytest.mark.parametrize("command", ["often", "take"])
def test_a_killed_process_has_abandoned_it_only_if_it_had_it(apart: Run, command: str) -> None:
    script = apart(
        "import warnings; warnings.simplefilter('ignore')\n"
        + WORK.format(kind="Lock")
        + f"""
commands.put({command!r})
done.get()
process.kill()
process.join()
print(lock.acquire(timeout=60), lock.abandoned)
"""
    )
    assert script.finish() == (0, "")
    assert script.lines == ["delegated True", f"True {command == 'take'}"]


def test_threads_of_its_process_share_it(apart: Run) -> None:
    script = apart("""
import threading

def work(lock, counter):
    def count():
        for _ in range(300):
            with lock:
                counter.append(counter[-1] + 1)
    for _ in range(20):
        lock.acquire(); lock.release()
    print("delegated", lock._semlock._delegation is not None)
    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(counter == list(range(901)))

process = mp.Process(target=work, args=(mp.Lock(), [0]), node="b")
process.start()
process.join()
print(process.exitcode)
""")
    assert script.finish() == (0, "")
    assert script.lines == ["delegated True", "True", "0"]


def test_a_condition_sleeps_on_one_that_is_delegated(apart: Run) -> None:
    script = apart("""
def work(condition, ready):
    for _ in range(20):
        condition.acquire(); condition.release()
    with condition:
        print("delegated", condition._lock._semlock._delegation is not None)
        ready.set()
        print(condition.wait(60))

condition, ready = mp.Condition(), mp.Event()
process = mp.Process(target=work, args=(condition, ready), node="b")
process.start()
ready.wait()
with condition:
    condition.notify()
process.join()
print(process.exitcode)
""")
    assert script.finish() == (0, "")
    assert script.lines == ["delegated True", "True", "0"]


def test_what_was_printed_and_put_before_comes_first(apart: Run) -> None:
    script = apart("""
def work(lock, queue, ready):
    for _ in range(20):
        with lock:
            pass
    ready.set()
    for number in range(200):
        with lock:
            queue.put(number)
            print("b", number)

lock, queue, ready = mp.Lock(), mp.SimpleQueue(), mp.Event()
process = mp.Process(target=work, args=(lock, queue, ready), node="b")
process.start()
ready.wait()
for _ in range(20):
    with lock:
        seen = -1
        while not queue.empty():
            seen = queue.get()
        print("seen", seen)
process.join()
""")
    assert script.finish() == (0, "")
    printed = -1
    for line in script.lines:
        what, number = line.split()
        if what == "b":
            printed = int(number)
        elif int(number) >= 0:
            assert printed == int(number), script.lines


def test_a_root_whose_agent_is_killed_returns_what_it_had(apart: Run) -> None:
    script = apart("""
def take(lock, done):
    print(lock.acquire(timeout=60))
    lock.release()

lock, held = mp.Lock(), mp.Lock()
for one in (lock, held):
    for _ in range(20):
        one.acquire(); one.release()
print("delegated", lock._semlock._delegation is not None)
held.acquire()
from manyhands.multiprocessing._processes import membership
import socket
link = membership.current().channel._stream._socket
credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
os.kill(int.from_bytes(credentials[:4], "little"), signal.SIGKILL)
process = mp.Process(target=take, args=(lock, None), node="b")
process.start()
process.join()
held.release()
process = mp.Process(target=take, args=(held, None), node="b")
process.start()
process.join()
""")
    code, errors = script.finish()
    assert code == 0, errors
    assert script.lines == ["delegated True", "True", "True"]


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_threads_of_one_process_share_it(apart: Run, kind: str) -> None:
    script = apart(f"""
import threading

def share(lock):
    count = 0
    def work():
        nonlocal count
        for _ in range(200):
            with lock:
                before = count
                count = before + 1
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(count)

lock = mp.{kind}()
share(lock)
process = mp.Process(target=share, args=(lock,), node="b")
process.start()
process.join()
""")
    code, errors = script.finish()
    assert code == 0, errors
    assert script.lines == ["1600", "1600"]


def test_an_interrupt_at_any_place_leaves_it_as_it_was(apart: Run) -> None:
    script = apart("""
from harness.interruptions import Interrupter, Interruption, interrupt

lock = mp.Lock()
place = 0
while True:
    place += 1
    while lock._semlock._delegation is None:
        lock.acquire(); lock.release()
    interrupter = Interrupter(interrupt)
    try:
        interrupter.run(lock.acquire, place)
    except Interruption:
        if not lock.acquire(timeout=60):
            print("lost at", interrupter.place)
            break
    else:
        break
    lock.release()
lock.release()
print(place > 3, lock._semlock._count())
""")
    assert script.finish() == (0, "")
    assert script.lines == ["True 0"]
