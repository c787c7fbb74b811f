"""Classes and functions that travel by value, and what they become where they arrive."""

from __future__ import annotations

import subprocess
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest

from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value import main_module
from manyhands_shared.payloads.by_value.class_resolution import HOME, Guests, World

SCRIPT = """
import dataclasses
import enum
import typing
log = []
class Item:
    total = 0
    def __init__(self, value): self.value = value
    def note(self): log.append(self.value)
    class Inner: pass
class Special(Item): pass
class Color(enum.Enum):
    RED = 1
class Wrong(Exception): pass
def helper(x): return x, log
def make(value): return Item(value)
def local():
    class Item: pass
    return Item()
class Slots:
    __slots__ = ("a", "__b")
    def __init__(self): self.a, self.__b = 1, 2
    def both(self): return self.a, self.__b
class One(Slots):
    __slots__ = "c"
class Mixed(Slots):
    __slots__ = ("__dict__", "__weakref__")
class Open(Slots): pass
class Empty:
    __slots__ = ()
    def both(self): return 1, 2
@dataclasses.dataclass(slots=True)
class Data:
    a: int = 1
    b: int = 2
    def both(self): return self.a, self.b
class Pair(typing.NamedTuple):
    a: int = 1
    b: int = 2
    def both(self): return self
"""


@pytest.fixture(autouse=True)
def at_home() -> Iterator[None]:
    yield
    pickled.arrive_at(HOME)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script that is `__main__` here."""
    module = types.ModuleType("__main__")
    exec(compile(SCRIPT, "script", "exec", dont_inherit=True), vars(module))
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


def to_child(value: Any, world: World) -> Any:
    """A function as a child has it."""
    payload = pickled.dumps_by_value(value)
    pickled.arrive_at(world)
    loaded = pickled.loads(payload)
    pickled.arrive_at(world.running)
    return loaded


def argument(value: Any, world: World, version: int = 1) -> Any:
    """An argument as a child has it."""
    payload = pickled.dumps((value,), lambda _kind: version)
    pickled.arrive_at(world.arguments)
    (loaded,) = pickled.loads(payload)
    pickled.arrive_at(world.running)
    return loaded


def back(value: Any) -> Any:
    """A result as the client has it."""
    payload = pickled.dumps(value)
    pickled.arrive_at(HOME)
    return pickled.loads(payload)


def world() -> World:
    return World(OrderedDict())


def test_what_comes_back_is_of_the_class_of_the_script_which_stays_as_it_is(script: Any) -> None:
    make = to_child(script.make, world())
    far = make(3)
    assert type(far) is not script.Item
    type(far).total = 99
    script.Item.total = 7
    note = script.Item.note
    item = back(far)
    assert type(item) is script.Item
    assert script.Item.total == 7
    assert script.Item.note is note
    item.note()
    assert script.log == [3]


@pytest.mark.parametrize(
    "expression",
    ["Item.Inner()", "Special(1)", "[Item(1)]", "{'a': Item(1)}", "Wrong('x', Item(1))"],
)
def test_classes_of_the_script_in_whatever_comes_back(script: Any, expression: str) -> None:
    space = dict(vars(script))
    far = to_child(eval(f"lambda: {expression}", vars(script)), world())()
    value = back(far)
    assert type(value) is type(eval(expression, space))
    for inner in value if type(value) is list else getattr(value, "args", ()):
        assert isinstance(inner, str | script.Item)


def test_a_member_of_an_enumeration_comes_back_as_itself(script: Any) -> None:
    assert back(to_child(eval("lambda: Color.RED", vars(script)), world())()) is script.Color.RED
    assert back(to_child(eval("lambda: Color", vars(script)), world())()) is script.Color


@pytest.mark.parametrize("expression", ["helper", "Item.note", "Item(1).note.__func__"])
def test_a_function_of_the_script_comes_back_as_itself(script: Any, expression: str) -> None:
    far = to_child(eval(f"lambda: {expression}", vars(script)), world())()
    assert back(far) is eval(expression, vars(script))


def test_a_function_that_has_changed_since_comes_back_by_value(script: Any) -> None:
    far = to_child(eval("lambda: helper", vars(script)), world())()
    exec("def helper(x): return 'other'", vars(script))
    assert back(far)(1) == (1, [])


@pytest.mark.parametrize("name", ["Slots", "One", "Mixed", "Open", "Empty", "Data", "Pair"])
def test_a_class_with_slots_has_them_everywhere(script: Any, name: str) -> None:
    home = getattr(script, name)
    there = to_child(home, world())
    made = there()
    assert there is not home
    assert hasattr(made, "__dict__") == hasattr(home(), "__dict__")
    came = back(made)
    assert type(came) is home
    assert came.both() == (1, 2)


def test_a_class_that_a_task_makes_comes_back_as_its_own(script: Any) -> None:
    local = to_child(script.local, world())
    made = back(local())
    assert type(made).__qualname__ == "local.<locals>.Item"
    assert type(made) is not script.Item


def test_a_result_of_an_earlier_run_of_the_script_is_of_its_class(script: Any) -> None:
    values = "[Item(5), local(), Color.RED, Special(6), helper]"
    send = f"sys.stdout.buffer.write(pickled.dumps({values}))"
    code = f"{SCRIPT}\nimport sys\nfrom manyhands_shared.payloads import pickled\n{send}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, timeout=100
    )
    item, other, red, special, helper = pickled.loads(done.stdout)
    assert type(item) is script.Item
    assert type(other) is not script.Item
    assert red is script.Color.RED
    assert type(special) is script.Special
    assert helper is script.helper


def test_each_function_has_its_own_classes_as_it_was_when_it_was_pickled(script: Any) -> None:
    guests: Guests = OrderedDict()
    script.Item.total = 1
    first = to_child(eval("lambda: Item.total", vars(script)), World(guests))
    script.Item.total = 2
    second = to_child(eval("lambda: Item.total", vars(script)), World(guests))
    assert (first(), second(), first()) == (1, 2, 1)


def test_arguments_are_of_the_classes_of_their_function(script: Any) -> None:
    source = "def read(item): item.note(); return isinstance(item, Item), len(log), item.total"
    exec(source, vars(script))
    here = world()
    read = to_child(script.read, here)
    script.Item.total = 5  # too late for this function
    for count in (1, 2):
        assert read(argument(script.Item(1), here)) == (True, count, 0)


def test_classes_of_arguments_alone_are_made_once_for_each_version(script: Any) -> None:
    guests: Guests = OrderedDict()
    one = argument(script.Item(1), World(guests))
    two = argument(script.Item(2), World(guests))
    assert type(one) is type(two)
    script.Item.total = 5
    three = argument(script.Item(3), World(guests), version=2)
    assert (one.total, two.total, three.total) == (0, 0, 5)
    assert type(back(one)) is type(back(three)) is script.Item


def test_each_function_has_its_own_type_variables(script: Any) -> None:
    exec("V = typing.TypeVar('V', bound=Item)\ndef variable(): return V", vars(script))
    before = to_child(script.variable, world())
    script.Item.total = 1
    after = to_child(script.variable, world())
    assert before().__bound__.total == 0
    assert after().__bound__.total == 1
    assert after() is after()


def test_a_type_variable_stays_the_same_on_its_ways(script: Any) -> None:
    exec("V = typing.TypeVar('V')\ndef variable(): return V", vars(script))
    there = world()
    far = to_child(script.variable, there)()
    assert argument(script.V, there) is far
    assert back(far) is script.V
    other = world()
    assert argument(script.V, other) is argument(script.V, other)


def test_a_class_that_is_asked_for_later_is_as_it_was_with_its_function(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for total in (1, 2):
        script.Item.total = total
        there = world()
        monkeypatch.setattr(main_module.script, "main", there.main)
        to_child(script.local, there)
        monkeypatch.setitem(sys.modules, "__main__", there.main)
        found, derived = there.main.Item, there.main.Special
        monkeypatch.setitem(sys.modules, "__main__", script)
        assert found.total == total
        assert derived.__base__ is found
        assert found is not script.Item
        assert back(found) is script.Item
