"""Classes of the script in tasks: what ran when the script made them, and classes inside of classes."""

from __future__ import annotations

from pathlib import Path

from harness.scripts.unguarded_script import run


def test_what_ran_when_the_script_made_a_class_does_not_run_again(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import abc
from typing import Generic, TypeVar
from manyhands import Executor

class Plugin:
    registry = []
    def __init_subclass__(cls, /, kind, **options):
        super().__init_subclass__(**options)
        cls.kind = kind
        Plugin.registry.append(cls)

class A(Plugin, kind="a"):
    pass

class B(Plugin, kind="b"):
    pass

class C(A, Generic[TypeVar("T")], kind="c"):
    pass

class Auto:
    seen = []
    def __init_subclass__(cls):
        Auto.seen.append(cls.__name__)

class X(Auto):
    pass

class Y(X):
    pass

class Meta(type):
    made = []
    def __new__(meta, name, bases, space, flag):
        kind = super().__new__(meta, name, bases, space)
        kind.flag = flag
        return kind
    def __init__(kind, name, bases, space, flag):
        super().__init__(name, bases, space)
        Meta.made.append(name)

class WithFlag(metaclass=Meta, flag=3):
    pass

class AbstractMeta(abc.ABCMeta):
    def __new__(meta, name, bases, space, *, flag):
        kind = super().__new__(meta, name, bases, space)
        kind.flag = flag
        return kind

class Base(metaclass=AbstractMeta, flag=4):
    @abc.abstractmethod
    def five(self): ...

class Derived(Base, Generic[TypeVar("U")], flag=5):
    def five(self):
        return 5

def met(value):
    return type(value).__name__, value.kind, len(Plugin.registry), type(value) in Plugin.registry

def seen(_):
    return Auto.seen

def made_here():
    class D(Plugin, kind="d"):
        pass
    class WithMore(WithFlag, flag=6):
        pass
    return [kind.__name__ for kind in Plugin.registry], Meta.made, WithMore.flag

def abstract():
    try:
        Base()
    except TypeError:
        return Base.flag, Derived.flag, Derived().five(), isinstance(Derived(), Base), Derived[int]()
    return "Base has no abstract method"

with Executor(max_workers=1) as executor:
    for value in (A(), B(), C(), A(), B(), C()):
        print(*executor.submit(met, value).result())
    print(*(executor.submit(seen, value).result() for value in (X(), Y(), X())))
    print(*executor.submit(made_here).result())
    *facts, derived = executor.submit(abstract).result()
    print(*facts, type(derived) is Derived)
    print([kind.__name__ for kind in Plugin.registry], Meta.made)
""",
    )
    assert said == [
        *2 * ["A a 3 True", "B b 3 True", "C c 3 True"],
        "['X', 'Y'] ['X', 'Y'] ['X', 'Y']",
        "['A', 'B', 'C', 'D'] ['WithFlag', 'WithMore'] 6",
        "4 5 5 True True",
        "['A', 'B', 'C'] ['WithFlag']",
    ]


def test_the_hook_of_a_base_that_is_installed_runs_if_it_can(tmp_path: Path) -> None:
    (tmp_path / "plugins.py").write_text(
        """
class Plain:
    seen = []
    def __init_subclass__(cls):
        Plain.seen.append(cls.__name__)

class Wanting:
    seen = []
    def __init_subclass__(cls, kind):
        cls.kind = kind
        Wanting.seen.append(cls.__name__)
"""
    )
    said = run(
        tmp_path,
        """
from manyhands import Executor
from plugins import Plain, Wanting

class One(Plain):
    pass

class Two(Wanting, kind=2):
    pass

def seen():
    class Three(Wanting, kind=3):
        pass
    return One.seen, Two.kind, Three.kind, Wanting.seen

with Executor(max_workers=1) as executor:
    print(*executor.submit(seen).result())
""",
    )
    assert said == ["['One'] 2 3 ['Three']"]


def test_plain_pickle_finds_classes_inside_of_classes(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import pickle
from manyhands import Pool

class Outer:
    class A:
        pass
    class B:
        rate = 1

class Tree:
    class Node:
        def __init__(self, value):
            self.value = value
    class Leaf(Node):
        pass

def again(value):
    return type(pickle.loads(pickle.dumps(value))).__name__

def rate(value):
    return pickle.loads(pickle.dumps(value)).rate

def values(nodes):
    return [pickle.loads(pickle.dumps(node)).value for node in nodes]

with Pool(1) as pool:
    for value in (Outer.A(), Outer.B(), Outer.A(), Outer.B(), Outer()):
        print(pool.apply(again, (value,)))
    print(*pool.map(values, [[Tree.Node(1)], [Tree.Leaf(2), Tree.Node(3)]]))
    print(pool.apply(rate, (Outer.B(),)))
""",
    )
    assert said == ["A", "B", "A", "B", "Outer", "[1] [2, 3]", "1"]


def test_members_of_an_enumeration_are_those_that_each_function_knows(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import enum
from manyhands import Pool

class Color(enum.Enum):
    RED = 1
    BLUE = 2

class Mode(enum.Flag):
    R = 4
    W = 2

def is_red(value):
    return value is Color.RED

def is_color(value):
    return isinstance(value, Color)

def both(value):
    return value is Mode.R | Mode.W, value in (Mode.R | Mode.W,)

def mode(value):
    return isinstance(value, Mode), Mode.R in value

with Pool(1) as pool:
    for function in (is_red, is_color, is_red):
        print(*pool.map(function, [Color.RED, Color.BLUE]))
    for function in (both, mode, both):
        print(*pool.map(function, [Mode.R | Mode.W]))
""",
    )
    assert said == [
        *("True False", "True True", "True False"),
        *("(True, True)", "(True, True)", "(True, True)"),
    ]
