"""Enumerations, names of the script and typed dictionaries travel by value, and arrive as they are."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from harness.processes import import_path

_DEFINITIONS = """
import dataclasses, datetime, enum, typing

made = []

class Planet(enum.Enum):
    EARTH = (5.976e24, 6.37814e6)
    TERRA = (5.976e24, 6.37814e6)
    def __init__(self, mass, radius):
        made.append(self.name if hasattr(self, "_name_") else "")
        self.mass = mass
    def heavier(self):
        return self.mass * 2

class Coordinate(bytes, enum.Enum):
    def __new__(cls, value, label):
        made = bytes.__new__(cls, [value])
        made._value_, made.label = value, label
        return made
    PX = (0, "P.X")
    PY = (1, "P.Y")

class Code(enum.IntEnum):
    OK = 200
    FINE = 200
    BAD = 500

class Perm(enum.Flag):
    R = 4
    W = 2
    RW = 6

class Word(str, enum.Enum):
    A = "a"

@dataclasses.dataclass(frozen=True)
class Base:
    size: str
    legs: int

class Creature(Base, enum.Enum):
    BEETLE = "small", 6

class Orbit(tuple, enum.Enum):
    INNER = (1, 2)
    OUTER = (3,)

class Day(datetime.date, enum.Enum):
    FIRST = 2020, 1, 2

class Period(datetime.timedelta, enum.Enum):
    LONG = 3, 4
    def __new__(cls, days, seconds):
        made = datetime.timedelta.__new__(cls, days, seconds)
        made._value_ = days
        return made

made_by = []

class ByName(enum.EnumMeta):
    def __new__(meta, *arguments, **options):
        made_by.append(meta.__name__)
        return super().__new__(meta, *arguments, **options)
    def __getitem__(kind, name):
        return super().__getitem__(name.upper())

class Color(enum.Enum, metaclass=ByName):
    RED = 1

class State(enum.Enum):
    OFF = 0
    ON = 1

State.ON.after = State.OFF
UserId = typing.NewType("UserId", int)
Arguments = typing.ParamSpec("Arguments")

class Null:
    def __init__(self):
        self.kept = [1]
    def __reduce__(self):
        return "NULL"

NULL = Null()

class Movie(typing.TypedDict):
    name: str

class Dated(Movie, total=False):
    year: int

class Outer:
    class Inner(enum.Enum):
        ONE = 1
"""

_SEND = """
import sys, pickle
from manyhands_shared.payloads import pickled
sys.stdout.buffer.write(pickle.dumps(pickled.dumps_by_value({value}, 1 << 20)))
"""

_RECEIVE = """
import sys, pickle
from collections import OrderedDict
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value.class_resolution import World
from manyhands_shared.payloads.by_value.main_module import script
world = World(OrderedDict())
script.enter(world.main)
pickled.arrive_at(world)
value = pickled.load(pickle.loads(sys.stdin.buffer.read()), None)
print(repr({look}))
"""


def seen(value: str, look: str, *options: str) -> str:
    """What another process sees of a value of a script."""
    environment = import_path()
    sent = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(_DEFINITIONS) + _SEND.format(value=value)],
        stdout=subprocess.PIPE,
        env=environment,
        timeout=100,
        check=True,
    ).stdout
    return (
        subprocess.run(
            [sys.executable, "-c", _RECEIVE.format(look=look)],
            input=sent,
            stdout=subprocess.PIPE,
            env=environment,
            timeout=100,
            check=True,
        )
        .stdout.decode()
        .strip()
    )


@pytest.mark.parametrize(
    ("value", "look", "wanted"),
    [
        (
            "Planet.EARTH",
            "(value.mass, value.heavier(), value.value[1])",
            (5.976e24, 11.952e24, 6.37814e6),
        ),
        (
            "Planet",
            "(value.TERRA is value.EARTH, [*value.__members__])",
            (True, ["EARTH", "TERRA"]),
        ),
        ("Planet", "value((5.976e24, 6.37814e6)).name", "EARTH"),
        ("Coordinate.PY", "(bytes(value), value.value, value.label)", (b"\x01", 1, "P.Y")),
        ("Coordinate", "(value.PX.label, value(1).name)", ("P.X", "PY")),
        ("Code.FINE", "(value + 1, value.name, type(value)['FINE'].name)", (201, "OK", "OK")),
        ("Perm.RW", "(value.name, value.value, value & type(value).W)", None),
        ("Perm", "(value(0).name, [m.name for m in value])", (None, ["R", "W"])),
        ("Word.A", "(value + 'b', value == 'a', type(value)('a') is value)", ("ab", True, True)),
        ("Creature.BEETLE", "(value.legs, value.size, value.name)", (6, "small", "BEETLE")),
        (
            "[Planet, Word]",
            "[sorted({'__init__', '__new_member__'} & vars(k).keys()) for k in value]",
            [["__init__"], []],
        ),
        ("Orbit.OUTER", "(tuple(value), value.value, value.name)", ((3,), (3,), "OUTER")),
        ("Orbit", "(tuple(value.INNER), value((1, 2)).name)", ((1, 2), "INNER")),
        ("Day.FIRST", "(value.isoformat(), value.name)", ("2020-01-02", "FIRST")),
        ("Period.LONG", "(value.days, value.seconds, value.value)", (3, 4, 3)),
        ("(Color, made_by)", "(value[0]['red'].name, len(value[1]))", ("RED", 1)),
        ("State.ON", "(value.after.name, value.after is type(value).OFF)", ("OFF", True)),
        ("Outer.Inner.ONE", "(type(value).__qualname__, value.value)", ("Outer.Inner", 1)),
        ("UserId", "(value(7), value.__supertype__ is int, value.__name__)", (7, True, "UserId")),
        ("Arguments", "value.__name__", "Arguments"),
        ("[NULL, NULL]", "(value[0] is value[1], value[0].kept)", (True, [1])),
        ("Dated", "(value(name='a'), sorted(value.__required_keys__))", ({"name": "a"}, ["name"])),
    ],
)
def test_what_it_is_over_there(value: str, look: str, wanted: object) -> None:
    if wanted is None:
        assert seen(value, look).startswith("('RW', 6, <Perm.W")
    else:
        assert seen(value, look) == repr(wanted)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` is a statement from Python 3.12 on")
def test_type_aliases_travel() -> None:
    assert (
        seen("[exec('type Alias = list[int]', globals()), Alias][1]", "value.__value__")
        == "list[int]"
    )


def test_plain_pickle_loads_enumerations_too() -> None:
    look = "(value.loads(value.made).mass, value.loads(value.made) is value.loads(value.made))"
    made = "pickled.dumps_by_value(Planet.EARTH, 1 << 20)"
    sent = f"type('Sent', (), {{'loads': pickle.loads, 'made': {made}}})"
    assert seen(sent, look) == "(5.976e+24, True)"


def test_no_code_of_a_member_runs_over_there() -> None:
    assert seen("(made, Planet.EARTH)", "(len(value[0]), value[1].name)") == "(2, 'EARTH')"


def test_an_argument_meets_what_the_script_has_by_its_name() -> None:
    look = "(vars(world.main).update(NULL=value[0]), pickled.load(value[1], None) is value[0])[1]"
    assert seen("(NULL, pickled.dumps_by_value(NULL, 1 << 20))", look) == "True"


def test_code_can_be_pickled_where_bytes_and_text_may_not_be_compared() -> None:
    assert seen("lambda: 7", "value()", "-bb") == "7"
