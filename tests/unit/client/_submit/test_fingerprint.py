"""Whatever a function refers to, and however that is changed, the next call has it as it is then."""

from __future__ import annotations

import array
import datetime as dt
import functools
import itertools
import random
import threading
import types
import typing
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest

from harness.scripts.own_script import Caller, script
from manyhands._submit.fingerprint import Fingerprint
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value.class_resolution import HOME

_numbers = itertools.count(100)


@pytest.fixture(autouse=True)
def at_home() -> Iterator[None]:
    yield
    pickled.arrive_at(HOME)


def variable(*constraints: type, bound: type | None = None) -> Any:
    make: Any = TypeVar
    return make("T", *constraints, bound=bound)


def forward(space: dict[str, Any]) -> Any:
    """Return a forward reference that was looked up."""
    made = typing.ForwardRef("Settings")
    made.__forward_value__ = space["Settings"]
    return made


def fresh() -> int:
    return next(_numbers)


def replaced_method(kind: Any) -> None:
    number = fresh()
    kind.method = lambda _self: number


def derived(kind: Any) -> type:
    # The first pickle of an instance would enter the names of slots.
    names = {"__module__": "__main__", "__slotnames__": [], "rate": fresh()}
    return type("Derived", (kind,), names)


class State(NamedTuple):
    """Something that can change: how it is made, changed in place, and shown."""

    make: Callable[[dict[str, Any]], Any]
    changes: list[Callable[[Any], Any]]
    shown: str


STATES = {
    "list": State(
        lambda _: [1, [2]], [lambda v: v.append(fresh()), lambda v: v[1].append(1)], "repr({})"
    ),
    "dict": State(
        lambda _: {"a": {"b": 1}},
        [
            lambda v: v.update(c=fresh()),
            lambda v: v["a"].update(b=fresh()),
            lambda v: v.update(a=v.pop("a")),
        ],
        "repr({})",
    ),
    "set": State(lambda _: {1, 2}, [lambda v: v.add(fresh()), lambda v: v.pop()], "sorted({})"),
    "deque": State(
        lambda _: deque([1]), [lambda v: v.append(fresh()), lambda v: v.rotate()], "list({})"
    ),
    "bytearray": State(lambda _: bytearray(9), [lambda v: v.append(fresh() % 256)], "bytes({})"),
    "array.array": State(
        lambda _: array.array("d", [1]), [lambda v: v.append(fresh())], "list({})"
    ),
    "ordered": State(
        lambda _: OrderedDict(a=1, b=2),
        [lambda v: v.move_to_end("a"), lambda v: v.move_to_end("b"), lambda v: v.update(a=fresh())],
        "list({}.items())",
    ),
    "default": State(
        lambda _: defaultdict(list),
        [lambda v: v["a"].append(fresh()), lambda v: setattr(v, "default_factory", dict)],
        "repr({})",
    ),
    "counter": State(lambda _: Counter("ab"), [lambda v: v.update("a")], "dict({})"),
    "numbers": State(
        lambda _: np.zeros(5),
        [
            lambda v: v.__iadd__(1),
            lambda v: v.__setitem__(3, fresh()),
            lambda v: v.setflags(write=False),
        ],
        "({0}.tolist(), {0}.flags.writeable)",
    ),
    "matrix": State(
        lambda _: np.zeros((200, 300), order="F"),
        [lambda v: v.__setitem__((fresh() % 200, 7), fresh())],
        "{}.tobytes()",
    ),
    "slice": State(lambda _: np.zeros(9)[::2], [lambda v: v.__iadd__(1)], "{}.tolist()"),
    "records": State(
        lambda _: np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
        [lambda v: v["b"].__iadd__(1)],
        "{}.tolist()",
    ),
    "objects": State(
        lambda _: np.array([[1], None], dtype=object), [lambda v: v[0].append(fresh())], "repr({})"
    ),
    "plain": State(
        lambda s: s["Plain"](),
        [lambda v: setattr(v, "x", fresh()), lambda v: setattr(v, "__dict__", {"x": fresh()})],
        "sorted(vars({}).items())",
    ),
    "slots": State(
        lambda s: s["Slots"](),
        [lambda v: setattr(v, "x", fresh()), lambda v: setattr(v, "y", [fresh()])],
        "(getattr({0}, 'x', 0), getattr({0}, 'y', 0))",
    ),
    "data": State(
        lambda s: s["Data"](1),
        [lambda v: setattr(v, "x", fresh()), lambda v: v.y.append(1)],
        "repr({})",
    ),
    "own pickling": State(lambda s: s["Own"](1), [lambda v: setattr(v, "x", fresh())], "{}.x"),
    "own list": State(lambda s: s["Listed"](), [lambda v: v.append(1)], "list({})"),
    "own number": State(
        lambda s: s["Number"](1), [lambda v: setattr(v, "unit", fresh())], "{}.unit"
    ),
    "class": State(
        lambda s: s["Settings"],
        [
            lambda v: setattr(v, "rate", fresh()),
            replaced_method,
            lambda v: setattr(v, "new", fresh()),
        ],
        "({0}.rate, {0}.method(None), getattr({0}, 'new', None))",
    ),
    "instance of a class that changes": State(
        lambda s: s["Settings"](),
        [
            lambda v: setattr(type(v), "rate", fresh()),
            lambda v: replaced_method(type(v)),
            lambda v: setattr(v, "__class__", derived(type(v))),
        ],
        "({0}.rate, {0}.method())",
    ),
    "function": State(
        lambda s: eval("lambda x=1, *, y=2: (x, y, K)", {**s, "K": 1}),
        [
            lambda v: setattr(v, "__defaults__", (fresh(),)),
            lambda v: v.__kwdefaults__.update(y=fresh()),
            lambda v: v.__globals__.update(K=fresh()),
            lambda v: setattr(v, "__code__", (lambda x=1, *, y=2: (y, x)).__code__),
            lambda v: setattr(v, "note", fresh()),
            lambda v: setattr(v, "__doc__", str(fresh())),
            lambda v: setattr(v, "__name__", f"n{fresh()}"),
            lambda v: v.__annotations__.update(x=fresh()),
        ],
        "({0}(), vars({0}), {0}.__doc__, {0}.__name__, {0}.__annotations__)",
    ),
    "enum": State(
        lambda s: s["Color"],
        [lambda v: setattr(v, "note", fresh()), lambda v: setattr(v, "method", lambda _: 2)],
        "(getattr({0}, 'note', None), hasattr({0}, 'method'), {0}.RED.value)",
    ),
    "generic": State(
        lambda s: s["Box"][int],
        [lambda v: setattr(v.__origin__, "rate", fresh())],
        "({0}.rate, {0}().rate)",
    ),
    "builtin generic": State(
        lambda s: s["BuiltinBox"][int],
        [lambda v: setattr(v.__origin__, "rate", fresh())],
        "({0}.rate, {0}().rate)",
    ),
    "bound": State(
        lambda s: variable(bound=s["Settings"]),
        [lambda v: setattr(v.__bound__, "rate", fresh())],
        "{}.__bound__.rate",
    ),
    "constraints": State(
        lambda s: variable(int, s["Settings"]),
        [lambda v: setattr(v.__constraints__[1], "rate", fresh())],
        "{}.__constraints__[1].rate",
    ),
    "forward reference": State(
        forward,
        [lambda v: setattr(v.__forward_value__, "rate", fresh())],
        "{}.__forward_value__.rate",
    ),
    "descriptor": State(
        lambda s: s["Slots"].x,
        [lambda v: setattr(v.__objclass__, "rate", fresh())],
        "getattr({}.__objclass__, 'rate', None)",
    ),
    "moment": State(
        lambda s: dt.datetime(2020, 1, 1, 12, tzinfo=s["Zone"]()),
        [lambda v: setattr(v.tzinfo, "hours", fresh() % 24)],
        "{}.utcoffset()",
    ),
    "time": State(
        lambda s: dt.time(12, tzinfo=s["Zone"]()),
        [lambda v: setattr(v.tzinfo, "hours", fresh() % 24)],
        "{}.utcoffset()",
    ),
    "names of fields": State(
        lambda _: np.zeros(2, dtype=[("a", "i4")]),
        [lambda v: setattr(v.dtype, "names", (f"a{fresh()}",))],
        "{}.dtype.names",
    ),
    "names of inner fields": State(
        lambda _: np.zeros(2, dtype=[("a", np.dtype([("b", "i4")]))]),
        [lambda v: setattr(v.dtype["a"], "names", (f"b{fresh()}",))],
        "{}.dtype['a'].names",
    ),
    "names of an inner array's fields": State(
        lambda _: np.zeros(2, dtype=[("a", np.dtype([("b", "i4")]), (2,))]),
        [lambda v: setattr(v.dtype["a"].base, "names", (f"b{fresh()}",))],
        "{}.dtype['a'].base.names",
    ),
    "metadata": State(
        lambda _: np.zeros(2, dtype=np.dtype("i4", metadata={"a": [1]})),
        [lambda v: v.dtype.metadata["a"].append(fresh())],
        "dict({}.dtype.metadata)",
    ),
    "type of records": State(
        lambda _: np.dtype([("a", "i4")]),
        [lambda v: setattr(v, "names", (f"a{fresh()}",))],
        "{}.names",
    ),
    "abstract": State(
        lambda s: s["Abstract"], [lambda v: v.register(registered())], "len(abc._get_dump({})[0])"
    ),
}
_registered: list[type] = []


def registered() -> type:
    """A class of a script that goes on living."""
    _registered.append(type(f"T{fresh()}", (), {"__module__": "__main__"}))
    return _registered[-1]


class Way(NamedTuple):
    """How something refers to a value, and how that is reached from it."""

    wrap: Callable[[dict[str, Any], Any], Any]
    reach: str


def attribute(kind: str) -> Callable[[dict[str, Any], Any], Any]:
    def wrap(space: dict[str, Any], value: Any) -> Any:
        holder: Any = (
            space[kind]() if kind != "made" else type("Made", (), {"__module__": "__main__"})
        )
        holder.x = value
        return holder

    return wrap


def ordered(_space: dict[str, Any], value: Any) -> Any:
    holder: Any = OrderedDict(a=1)
    holder.x = value
    return holder


def annotation(_space: dict[str, Any], value: Any) -> Any:
    function: Any = eval("lambda x: x", {"__name__": "__main__"})
    function.__annotations__ = {"x": typing.Annotated[int, value]}
    return function


def on_function(_space: dict[str, Any], value: Any) -> Any:
    function: Any = eval("lambda: None", {"__name__": "__main__"})
    function.x = value
    return function


WAYS = {
    "list": Way(lambda _, v: [v], "{}[0]"),
    "tuple": Way(lambda _, v: (0, v), "{}[1]"),
    "dict": Way(lambda _, v: {"k": v}, "{}['k']"),
    "deque": Way(lambda _, v: deque([v]), "{}[0]"),
    "frozen": Way(lambda _, v: types.MappingProxyType({"k": v}), "{}['k']"),
    "default dict": Way(lambda _, v: defaultdict(int, k=v), "{}['k']"),
    "objects": Way(lambda _, v: np.array([v, None], dtype=object), "{}[0]"),
    "instance": Way(attribute("Plain"), "{}.x"),
    "slot": Way(attribute("Slots"), "{}.x"),
    "data": Way(attribute("Data"), "{}.x"),
    "own pickling": Way(lambda s, v: s["Own"](v), "{}.x"),
    "attribute of ordered": Way(ordered, "{}.x"),
    "annotated": Way(lambda _, v: typing.Annotated[int, v], "{}.__metadata__[0]"),
    "annotation": Way(annotation, "{}.__annotations__['x'].__metadata__[0]"),
    "named tuple": Way(lambda s, v: s["Pair"](v), "{}.x"),
    "class": Way(attribute("made"), "{}.x"),
    "function attribute": Way(on_function, "{}.x"),
    "closure": Way(lambda s, v: eval("lambda v: lambda: v", s)(v), "{}()"),
    "default": Way(lambda s, v: eval("lambda v: lambda x=v: x", s)(v), "{}()"),
    "keyword default": Way(lambda s, v: eval("lambda v: lambda *, x=v: x", s)(v), "{}()"),
    "other function": Way(lambda s, v: eval("lambda: V", {**s, "V": v}), "{}()"),
    "partial": Way(lambda s, v: functools.partial(eval("lambda x: x", dict(s)), v), "{}()"),
    "method": Way(
        lambda s, v: types.MethodType(
            eval("lambda self: self.x", dict(s)), attribute("Plain")(s, v)
        ),
        "{}()",
    ),
    "static": Way(
        lambda s, v: eval(
            "lambda v: type('S', (), {'__module__': '__main__', 'get': staticmethod(lambda: v)})",
            dict(s),
        )(v),
        "{}.get()",
    ),
    "property": Way(
        lambda s, v: eval(
            "lambda v: type('S', (), {'__module__': '__main__', 'x': property(lambda self: v)})",
            dict(s),
        )(v),
        "{}().x",
    ),
    "base": Way(
        lambda s, v: type("Derived", (attribute("made")(s, v),), {"__module__": "__main__"}), "{}.x"
    ),
}
ROOTS = {
    "global": "def f(): return {shown}",
    "nested": "def f(): return [{shown} for _ in range(1)]",
    "closure": "def make(ROOT):\n    def f(): return {shown}\n    return f\nf = make(ROOT)",
    "default": "def f(R=ROOT):\n    ROOT = R\n    return {shown}",
    "attribute": "def f():\n    ROOT = f.root\n    return {shown}\nf.root = ROOT",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("root", ROOTS)
def test_a_change_in_place_is_seen(state: str, root: str) -> None:
    check([], state, root, random.Random(0))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ["list", "numbers", "class", "plain", "own pickling"])
def test_a_change_in_place_is_seen_through(way: str, state: str) -> None:
    check([way], state, "global", random.Random(0))


@pytest.mark.parametrize("seed", range(100))
def test_any_change_is_seen_by_any_way(seed: int) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    ways = [rng.choice(list(WAYS)) for _ in range(rng.randrange(4))]
    check(ways, rng.choice(list(STATES)), rng.choice(list(ROOTS)), rng)


def check(ways: list[str], state: str, root: str, rng: random.Random) -> None:
    """A function that reaches a state by these ways has it at each call as it is then."""
    space = script()
    made = STATES[state].make(space)
    value, reach = made, "ROOT"
    for way in ways:
        value = WAYS[way].wrap(space, value)
    for way in reversed(ways):
        reach = WAYS[way].reach.format(reach)
    space["ROOT"] = value
    exec(ROOTS[root].format(shown=STATES[state].shown.format(reach)), space)
    function = space["f"]
    caller = Caller(function)
    assert caller() == function(), (ways, state, root)
    changes = STATES[state].changes
    for change in [*changes, *rng.choices(changes, k=3)]:
        try:
            change(made)
        except (KeyError, ValueError):  # an empty set, an array that is only for reading now
            continue
        assert caller() == function(), (ways, state, root)
        before = caller.pickled
        assert caller() == function()
        # What is loaded registers with abstract classes of this very process.
        again = caller._fingerprint.blind or state == "abstract"  # type: ignore[union-attr]
        assert caller.pickled == before or again


def test_what_the_body_of_a_class_inside_looks_up_goes_along_and_is_seen() -> None:
    source = """
limit, base = 3, Settings
def f():
    class Inner(base):
        own = limit
        limit = own + 1
        later = limit
    return Inner.own, Inner.later, Inner.rate
"""
    space = script(source)
    caller = Caller(space["f"])
    assert caller() == (3, 4, 1)
    space["limit"] = 10
    assert caller() == (10, 11, 1)


def test_a_name_that_the_body_of_a_class_inside_makes_is_not_looked_up() -> None:
    source = """
def f():
    class Inner:
        lock = 1
        both = lock, lock
    return Inner.both
"""
    assert Caller(script(source, lock=threading.Lock())["f"])() == (1, 1)


def test_what_is_put_back_is_seen_too() -> None:
    space = script("def f(): return Settings.rate")
    caller = Caller(space["f"])
    for rate in (1, 2, 1, 3, 1):
        space["Settings"].rate = rate
        assert caller() == rate


def test_a_submodule_that_is_imported_later_goes_along() -> None:
    space = script("import concurrent\ndef f(): return concurrent.futures.Future.__name__")
    fingerprint = Fingerprint(space["f"])
    assert fingerprint.holds()
    assert fingerprint._modules is not None


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, y=(1, 'a'), *, z=None): return len(x)",
        "import math\nTABLE = [1.5, 'a', None, (1, 2)]\ndef f(x): return math.sin(x) + TABLE[0]",
        "LIMITS = {'a': {'b': [1, 2]}}\ndef f(x): return g(x)\ndef g(x): return LIMITS",
        "def f(x: Data) -> typing.Optional[Settings]: return Data(x, [Color.RED, Pair(1)])",
        "class A(Abstract):\n    def x(self): return super().__init__()\ndef f(): return A",
        "import logging, re\nlog = logging.getLogger('a')\nE = re.compile('a')\ndef f(): log.info(E)",
    ],
)
def test_what_scripts_are_made_of_is_not_pickled_at_each_call(source: str) -> None:
    fingerprint = Fingerprint(script(source)["f"])
    assert not fingerprint.blind
    assert fingerprint.holds()


def test_what_is_large_or_odd_is_pickled_at_each_call() -> None:
    for value in (list(range(100_000)), tuple(range(100_000)), object(), iter([]), [[[]] * 6_000]):
        fingerprint = Fingerprint(script("def f(): return V", V=value)["f"])
        assert fingerprint.blind
        assert not fingerprint.holds()


def test_a_fingerprint_of_nothing_that_changes_is_quick_to_check() -> None:
    fingerprint = Fingerprint(script("def f(): return len(())")["f"])
    assert len(fingerprint._equal) == 1
    assert len(fingerprint._globals) == 1  # that `len` is none
    assert not fingerprint._same
