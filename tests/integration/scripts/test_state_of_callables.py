"""What a task changes in what it calls: the next task has it as it was at the call."""

from __future__ import annotations

from pathlib import Path

from harness.scripts.unguarded_script import run


def test_each_task_has_the_callable_as_it_was_at_the_call(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import functools
import pickle
import numpy
from manyhands import Executor, Pool

COUNT, STARTED = 0, 0

class Model:
    def __init__(self):
        self.total = 0
        self.weights = numpy.zeros(100_000)
    def fit(self, x):
        self.total += x
        self.weights += x
        return self.total, int(self.weights[-1])
    def __call__(self, x):
        return self.fit(x)

def append(items, x):
    items.append(x)
    return items

def add(array, x):
    array += x
    return int(array[0])

def start():
    global STARTED
    STARTED += 1

@functools.cache
def cached(x):
    global COUNT
    COUNT += 1
    return COUNT

def counted(array, x):
    global COUNT
    COUNT += 1
    return COUNT, STARTED, pickle.loads(pickle.dumps(append)) is append, cached(x)

def same(items, function, x):
    return pickle.loads(pickle.dumps(function)) is function

def flaky(items):
    items.append(1)
    if len(items) < 3:
        raise ValueError(len(items))
    return len(items)

with Executor(max_workers=1, initializer=start) as executor:
    model = Model()
    print(*executor.map(model.fit, [1, 2, 3]), *executor.map(model, [1, 2]), model.total)
    print(*executor.map(functools.partial(append, []), [1, 2]))
    print(*executor.map(functools.partial(add, numpy.zeros(100_000)), [1, 2]))
    print(*executor.map(functools.partial(add, numpy.zeros(10)), [1, 2]))
    print(*executor.map(functools.partial(add, numpy.zeros(6_000)), [1, 2]))
    print(*executor.map(functools.partial(same, [], flaky), [1, 2]))
    print(*(executor.submit({"a": 1}.pop, "a").result() for _ in range(2)))
    # The globals of the script's functions are those of the child, as ever.
    print(*executor.map(functools.partial(counted, []), [1, 1, 2]))
    failed = executor.with_options(retries=3, retry_delay=0.0).submit(functools.partial(flaky, []))
    print(repr(failed.exception()))
    print(*executor.map(functools.partial(pow, 2), [1, 2]), *executor.map("a".__add__, "bc"))

with Pool(1) as pool:
    print(pool.map(model.fit, [1, 2], chunksize=1), pool.map(model.fit, [1, 2], chunksize=2))
""",
    )
    assert said == [
        "(1, 1) (2, 2) (3, 3) (1, 1) (2, 2) 0",
        "[1] [2]",
        "1 2",
        "1 2",
        "1 2",
        "True True",
        "1 1",
        "(1, 1, True, 2) (3, 1, True, 2) (4, 1, True, 5)",
        "ValueError(1)",
        "2 4 ab ac",
        "[(1, 1), (2, 2)] [(1, 1), (3, 3)]",
    ]
