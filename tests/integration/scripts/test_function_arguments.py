"""Functions of the script among the arguments of tasks: whose globals they have, and what finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.scripts.unguarded_script import run


def test_functions_among_the_arguments_are_those_of_the_script(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import functools
import pickle
import sys
import weakref
from manyhands import Executor

COUNT, LIMIT = 0, 5

class Shape:
    pass

def bump(by):
    global COUNT
    COUNT += by
    return COUNT

def run(function):
    return function(1), COUNT

def same(function):
    return function is bump, function(1), COUNT

def make():
    return Shape()

def is_shape(function):
    return isinstance(function(), Shape)

def limit():
    return LIMIT

def doubled(function):
    @functools.wraps(function)
    def wrapper():
        return 2 * function()
    return wrapper

@doubled
def twice():
    return LIMIT

def call(function):
    return function()

def again(function):
    return pickle.loads(pickle.dumps(function))()

def back(value):
    return value

ORIGINALS = []

def replaced(function):
    def wrapper():
        return "wrapper"
    wrapper.__name__, wrapper.__qualname__ = function.__name__, function.__qualname__
    ORIGINALS.append(function)
    return wrapper

@replaced
def named():
    return "original"

def first_again(functions):
    return again(functions[0])

DATA = Shape()

def data():
    return DATA

def keep(function):
    sys.kept = weakref.ref(function())
    return sys.kept() is not None

def is_gone():
    return sys.kept() is None

with Executor(max_workers=1) as executor:
    def ask(function, *arguments):
        return executor.submit(function, *arguments).result()
    print(ask(run, bump), ask(run, bump), ask(same, bump), ask(run, lambda by: bump(by) + COUNT))
    print(ask(is_shape, make))
    print(ask(call, limit), ask(again, limit), ask(call, twice), ask(again, twice))
    LIMIT = 6
    print(ask(call, limit), ask(again, limit), ask(call, twice), ask(again, twice))
    print(ask(back, limit) is limit, ask(back, [Shape, {1: bump}]) == [Shape, {1: bump}])
    futures = []
    for LIMIT in range(200):
        futures.append(executor.submit(call, limit))
    print([future.result() for future in futures] == list(range(200)))
    print(ask(first_again, [named, *ORIGINALS]))
    print(ask(keep, data), ask(is_gone))
""",
    )
    assert said == [
        "(1, 1) (2, 2) (True, 1, 1) (6, 3)",
        "True",
        "5 5 10 10",
        "6 6 12 12",
        "True True",
        "True",
        "wrapper",
        "True True",
    ]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_in_a_task_runs_a_function_that_the_task_was_given(
    tmp_path: Path, method: str
) -> None:
    said = run(
        tmp_path,
        """
import multiprocessing
import sys
from manyhands import Executor

def double(number):
    return 2 * number

def doubles(function, numbers):
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        return pool.map(function, numbers)

with Executor(max_workers=1) as executor:
    print(executor.submit(doubles, double, [1, 2, 3]).result())
""",
        method,
    )
    assert said == ["[2, 4, 6]"]
