"""The module `__main__` in a child: what libraries and plain pickle find of the script."""

from __future__ import annotations

from pathlib import Path

import pytest

import manyhands
from harness.scripts.unguarded_script import run


def test_cached_and_generic_functions_of_the_script_travel(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import functools
import manyhands

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@functools.lru_cache(maxsize=7, typed=True)
def seven(n):
    return n

def info(n):
    return seven(n), seven(n), seven.cache_info()[:3], seven.cache_parameters(), seven.__name__

@functools.singledispatch
def kind(value):
    return "other"

@kind.register
def _(value: int):
    return "int"

@kind.register(list)
def _(value):
    return [kind(each) for each in value]

class Grid:
    def __init__(self, n):
        self.n = n
    @functools.cached_property
    def double(self):
        return 2 * self.n
    @staticmethod
    @functools.lru_cache(maxsize=8)
    def size(n):
        return n + 1
    @functools.lru_cache
    def method(self, n):
        return self.n + n
    @functools.singledispatchmethod
    def show(self, value):
        return "other"
    @show.register
    def _(self, value: int):
        return "int"

def grid(n):
    made = Grid(n)
    return made.double, made.size(n), made.method(n), made.show(1), made.show("")

with manyhands.Pool(1) as pool:
    print(pool.apply(fib, (50,)), pool.apply(info, (3,)))
    print(pool.map(kind, [1, "", [2, ""]]), pool.apply(kind.dispatch(list), ([],)))
    print(pool.apply(grid, (3,)), pool.apply(Grid(4).method, (1,)))
""",
    )
    assert said == [
        "12586269025 (3, 3, (1, 1, 7), {'maxsize': 7, 'typed': True}, 'seven')",
        "['other', 'other', 'other'] []".replace("['other'", "['int'", 1).replace(
            "'other']", "['int', 'other']]"
        ),
        "(6, 4, 6, 'int', 'other') 5",
    ]


def test_plain_pickle_finds_the_classes_of_the_script(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import enum, pickle
from collections import namedtuple
from dataclasses import dataclass
import manyhands

class Model:
    class Part:
        pass
    def __init__(self, weight):
        self.weight = weight
        self.part = self.Part()

Pair = namedtuple("Pair", "a b")

class Colour(enum.Enum):
    RED = 1

@dataclass
class Row:
    n: int

@dataclass(frozen=True, slots=True)
class Frozen:  # the decorator makes another class of it, and the first one travels, too
    n: int

def again(value):
    return pickle.loads(pickle.dumps(value)).n

def save(weight):
    return pickle.dumps([Model(weight), Pair(1, 2), Colour.RED, Row(3)])

def load(data):
    model, pair, colour, row = pickle.loads(data)
    return model.weight, tuple(pair), colour.name, row.n

with manyhands.Pool(1) as pool:
    model, pair, colour, row = pickle.loads(pool.apply(save, (5,)))
    print(type(model) is Model, model.weight, type(model.part) is Model.Part, colour is Colour.RED)
    # Nothing in this function names the classes.
    print(pool.apply(load, (pickle.dumps([Model(6), Pair(1, 2), Colour.RED, Row(3)]),)))
    # A function that is imported on the node, with an argument of the script's.
    print(pickle.loads(pool.apply(pickle.dumps, (Model(7),))).weight)
    print(pool.apply(pickle.loads, (pickle.dumps(Pair(8, 9)),)))
    print(pool.map(again, [Frozen(3), Row(4)]))
""",
    )
    assert said == [
        "True 5 True True",
        "(6, (1, 2), 'RED', 3)",
        "7",
        "Pair(a=8, b=9)",
        "[3, 4]",
    ]


def test_annotations_are_resolved_in_a_task(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
from __future__ import annotations
import threading, typing
from dataclasses import dataclass
import manyhands

@dataclass
class Inner:
    a: int

@dataclass
class Outer:
    inner: Inner
    many: list[Inner]

Alias = typing.Union[Inner, int]

class Locked:
    lock = threading.Lock()

def convert(outer: Outer, alias: Alias) -> Inner: ...

def with_a_lock(locked: Locked) -> int:
    return 7

def names(function):
    return {name: getattr(kind, "__name__", str(kind)) for name, kind in hints(function).items()}

def hints(what):
    return typing.get_type_hints(what)

with manyhands.Pool(1) as pool:
    print(sorted(pool.apply(lambda: hints(Outer))), pool.apply(lambda: names(convert))["return"])
    print(pool.apply(with_a_lock, (1,)))
""",
    )
    assert said == ["['inner', 'many'] Inner", "7"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_task_may_use_pools_of_its_own(tmp_path: Path, method: str) -> None:
    said = run(
        tmp_path,
        """
import multiprocessing, sys, threading
from concurrent.futures import ProcessPoolExecutor
import manyhands

print("once")
FACTOR = 3
lock = threading.Lock()

class Model:
    def __init__(self, n):
        self.n = n

def times(n):
    return n * FACTOR

def model(n):
    return Model(n)

def value(model):
    return model.n

def put(queue):
    queue.put(Model(7).n)

def inner(method):
    with lock:
        context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        first = pool.map(times, range(3))
        second = [made.n for made in pool.map(model, range(3))]
        third = pool.map(value, [Model(n) for n in range(3)])
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        fourth = list(executor.map(times, range(3)))
    queue = context.Queue()
    process = context.Process(target=put, args=(queue,))
    process.start()
    fifth = queue.get()
    process.join()
    return first, second, third, fourth, fifth

def work(method):
    # Made here, for a lock of the script's own does not travel.
    global lock
    lock = threading.Lock()
    return inner(method)

with manyhands.Pool(1) as pool:
    print(pool.apply(work, sys.argv[1:]))
""".replace("lock = threading.Lock()\n\nclass", "class"),
        method,
    )
    assert said == ["once", "([0, 3, 6], [0, 1, 2], [0, 1, 2], [0, 3, 6], 7)"]


def test_modules_made_at_run_time_travel(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "plugin.py").write_text(
        "BASE = 10\ndef add(n):\n    return BASE + n\nclass Thing:\n    n = 4\n"
    )
    said = run(
        tmp_path,
        """
import importlib.util, sys, types
import manyhands

made = types.ModuleType("made_here")
sys.modules["made_here"] = made
code = "X = 3\\ndef triple(n):\\n    return X * n\\n"
exec(code + "class Kind:\\n    def run(self):\\n        return triple(5)", vars(made))

spec = importlib.util.spec_from_file_location("plugin_here", sys.argv[1] + "/elsewhere/plugin.py")
plugin = importlib.util.module_from_spec(spec)
sys.modules["plugin_here"] = plugin
spec.loader.exec_module(plugin)

unknown = types.ModuleType("unknown")
unknown.value = 8

def use(n):
    import made_here
    return made.triple(n), made_here.X, plugin.add(n), unknown.value

def run(thing):
    return thing.run()

with manyhands.Pool(1) as pool:
    print(pool.apply(made.triple, (2,)), pool.apply(plugin.add, (2,)), pool.apply(use, (1,)))
    print(pool.apply(run, (made.Kind(),)), pool.apply(lambda thing: thing.n, (plugin.Thing(),)))
    back = pool.apply(lambda: made.Kind())
    print(type(back) is made.Kind, sys.modules["made_here"] is made)
""",
        str(tmp_path),
    )
    assert said == ["6 12 (3, 3, 11, 8)", "15 4", "True True"]


def test_manager_queues_work_in_tasks_and_the_key_is_not_for_others(tmp_path: Path) -> None:
    script = """
import multiprocessing, sys
import manyhands

def report(queue, counts, n):
    queue.put(n)
    counts[n] = n * n
    return counts["inner"]["x"]

def key():
    return bytes(multiprocessing.current_process().authkey)

if sys.argv[2] == "manager":
    manager = multiprocessing.Manager()
    queue, counts = manager.Queue(), manager.dict()
    counts["inner"] = manager.dict(x=5)

with manyhands.Pool(1, address=sys.argv[1]) as pool:
    if sys.argv[2] == "later":
        # The function is known from a time without managers.
        print(pool.apply(len, ("four",)))
        manager = multiprocessing.Manager()
        print(pool.apply(len, (manager.dict(x=5),)))
        manager.shutdown()
    elif sys.argv[2] == "manager":
        print(pool.starmap(report, [(queue, counts, n) for n in range(3)]))
        print(sorted(queue.get() for _ in range(3)), counts[2])
        # A bound method of a proxy, and a function that is imported.
        pool.apply(queue.put, (9,))
        print(queue.get(), pool.apply(len, (counts,)))
        print(pool.apply(key) == key())
    else:
        print(pool.apply(key).hex())
if sys.argv[2] == "manager":
    manager.shutdown()
"""
    with manyhands.LocalCluster(nodes=1, slots=1) as cluster:
        [before] = run(tmp_path, script, cluster.address, "none")
        said = run(tmp_path, script, cluster.address, "manager")
        assert run(tmp_path, script, cluster.address, "later") == ["4", "1"]
        [after] = run(tmp_path, script, cluster.address, "none")
    assert said == ["[5, 5, 5]", "[0, 1, 2] 4", "9 4", "True"]
    assert before == after, "the same child has its own key again"


def test_each_script_finds_its_own_classes_in_a_child_that_serves_several(tmp_path: Path) -> None:
    script = """
import pickle, sys
import manyhands

class Model:
    who = sys.argv[2]

def load(data):
    return pickle.loads(data).who

with manyhands.Pool(1, address=sys.argv[1]) as pool:
    for _ in range(3):
        print(pool.apply(load, (pickle.dumps(Model()),)))
"""
    with manyhands.LocalCluster(nodes=1, slots=1) as cluster:
        assert run(tmp_path, script, cluster.address, "first") == ["first"] * 3
        assert run(tmp_path, script, cluster.address, "second") == ["second"] * 3


def test_what_surrounds_a_function_need_not_travel(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import threading
import manyhands

lock = threading.Lock()

class Outer:
    lock = threading.Lock()
    class Inner:
        def value(self): return 3
    def make(self): return lambda: 2

def main():
    with lock, manyhands.Executor(max_workers=1) as executor:
        print(executor.submit(lambda: 1).result())
        print(executor.submit(Outer().make()).result())
        print(executor.submit(Outer.Inner().value).result())
        print(*executor.map(lambda x: x + 1, [3, 4]))

main()
""",
    )
    assert said == ["1", "2", "3", "4 5"]


def test_code_of_the_script_knows_its_file(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import inspect
import traceback
import manyhands

def fail():
    raise ValueError("here")  # the reason

def source():
    return inspect.getsource(fail)

with manyhands.Pool(1) as pool:
    print(pool.apply(source) == inspect.getsource(fail))
    try:
        pool.apply(fail)
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
        print(f'File "{__file__}", line 7, in fail' in text, text.count("# the reason"))
""",
    )
    assert said == ["True", "True 1"]


def test_names_that_are_looked_up_by_text_are_there(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import dataclasses
import functools
import pickle
import sys
import numpy
import manyhands

FACTOR = 3
TABLE = numpy.arange(4)
log = []

@dataclasses.dataclass
class Inner:
    a: int
    b: list = dataclasses.field(default_factory=list)

@functools.lru_cache
def cached(x):
    return x * FACTOR

def work_a(x):
    log.append(x)
    return x + FACTOR

def work_b(x):
    return cached(x), len(log), int(TABLE.sum())

def by_name(name, *arguments):
    return globals()[name](*arguments)

def in_a_row():
    work_a(1)
    return globals()["work_b"](2)

def evaluate(text):
    return eval(text)

def of_main(name):
    import __main__
    return getattr(__main__, name)

def of_modules(name):
    return getattr(sys.modules[__name__], name)

def restored(data):
    return pickle.loads(data)(5)

def derived():
    @dataclasses.dataclass
    class Outer(Inner):
        c: int = 1
    return Outer(2).c, dataclasses.fields(Inner)[0].default is dataclasses.MISSING

with manyhands.Pool(1) as pool:
    for _ in range(2):
        print(pool.apply(by_name, ("work_a", 1)), pool.apply(by_name, ("work_b", 1)))
        print(pool.apply(in_a_row), pool.apply(evaluate, ("work_a(FACTOR)",)))
        print(pool.apply(of_main, ("FACTOR",)), pool.apply(of_modules, ("TABLE",)).tolist())
        print(pool.apply(by_name, ("Inner", 4)))
        FACTOR = 4
        TABLE += 1
    print(pool.apply(restored, (pickle.dumps(work_a),)), pool.apply(derived))
""",
    )
    first = ["4 (3, 1, 6)", "(6, 1, 6) 6", "3 [0, 1, 2, 3]", "Inner(a=4, b=[])"]
    then = ["5 (4, 1, 10)", "(8, 1, 10) 8", "4 [1, 2, 3, 4]", "Inner(a=4, b=[])"]
    assert said == [*first, *then, "9 (1, True)"]
