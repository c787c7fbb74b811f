"""Globals that belong to one process, as locks: a task has new ones, as a forked child has copies."""

from __future__ import annotations

from pathlib import Path

from harness.scripts.unguarded_script import run


def test_functions_that_use_locks_and_the_like_travel(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import contextvars
import struct
import threading
from manyhands import Executor, SubmitError

LOCK, RLOCK, CONDITION = threading.Lock(), threading.RLock(), threading.Condition()
LOCAL = threading.local()
FLAG, UNSET = threading.Event(), threading.Event()
FLAG.set()
VARIABLE, EMPTY = contextvars.ContextVar("variable", default=7), contextvars.ContextVar("empty")
HEADER = struct.Struct("<I")
LOCK.acquire()

class Service:
    lock = threading.Lock()
    same = LOCK
    def call(self):
        with self.lock:
            return Service.same is LOCK, self.lock is not LOCK

def locks():
    free = LOCK.acquire(timeout=5)
    with RLOCK, RLOCK, CONDITION:
        return free, not LOCK.acquire(blocking=False), Service().call()

def others():
    LOCAL.x = 1
    VARIABLE.set(VARIABLE.get() + 1)
    return LOCAL.x, VARIABLE.get(), EMPTY.get("none"), FLAG.is_set(), UNSET.is_set(), HEADER.size

def call(function):
    return function()

with Executor(max_workers=1) as executor:
    print(executor.submit(locks).result())
    print(executor.submit(others).result())
    print(executor.submit(call, others).result())
    # An argument that is a lock is refused, as ever.
    for argument in (LOCK, [FLAG]):
        error = executor.submit(call, argument).exception()
        print(isinstance(error, SubmitError), isinstance(error, TypeError))
print(LOCK.locked())
""",
    )
    assert said == [
        "(True, True, (True, True))",
        "(1, 8, 'none', True, False, 4)",
        "(1, 8, 'none', True, False, 4)",
        "True True",
        "True True",
        "True",
    ]
