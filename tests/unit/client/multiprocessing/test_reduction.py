"""What goes through a pipe: plain values at once, everything else by what is registered for it."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from manyhands._submit import class_pickles
from manyhands.multiprocessing import reduction
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.by_value.class_resolution import HOME, World

PLAIN = [
    None,
    "text",
    (1, "x", 2.5),
    {"a": 1, "b": [1, 2], (1, 2): {"c": b"d"}},
    [[[[["deep"]]]]],
    [*range(1000)],
    [],
    {},
    ({1, 2}, frozenset({3}), bytearray(b"4")),
]


@pytest.mark.parametrize("value", PLAIN, ids=str)
def test_plain_values_come_out_as_they_went_in(value: Any) -> None:
    assert reduction.loads(reduction.dumps_bytes(value)) == value
    assert reduction.loads(reduction.dumps(value).payload) == value


def test_a_list_that_holds_itself_does_too() -> None:
    ring: list[Any] = [1]
    ring.append(ring)
    found = reduction.loads(reduction.dumps_bytes(ring))
    assert found[1] is found


def test_a_value_that_is_none_of_these_is_pickled_by_its_reducer_wherever_it_is() -> None:
    lock = multiprocessing.Lock()
    for value in (lock, [lock], {"a": (lock,)}, [[[[lock]]]]):
        with pytest.raises(pickle.PicklingError, match="one machine only"):
            reduction.dumps_bytes(value)


class Thing:
    """What a test registers a reducer for."""


def as_day(day: dt.date, _: Thing) -> tuple[Any, ...]:
    """Pickle a thing as a day."""
    return dt.date, (day.year, day.month, day.day)


def test_what_is_registered_last_counts_at_once() -> None:
    registered: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    try:
        for day in (dt.date(1999, 1, 1), dt.date(2000, 1, 1)):
            ForkingPickler.register(Thing, partial(as_day, day))
            assert reduction.loads(reduction.dumps_bytes([Thing()])) == [day]
    finally:
        del registered[Thing]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of a module that no other process can import."""
    module = ModuleType("made_here")
    made: type = type("Made", (), {"__module__": "made_here"})
    module.Made = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_here", module)
    return made


@pytest.mark.parametrize("kind", [bytes, bytearray, partial(np.frombuffer, dtype="u1")])
def test_long_data_is_not_searched_for_names(made: type, kind: Any) -> None:
    data = kind(b"made_here __main__ " * 10_000)
    assert reduction.dumps_bytes([data]) == pickle.dumps([data], 5)
    assert b"cloudpickle" in reduction.dumps_bytes([data, made()])
    assert b"cloudpickle" in reduction.dumps_bytes([made(), data])
    # Frames that are long for their many small parts.
    assert b"cloudpickle" in reduction.dumps_bytes([*map(str, range(50_000)), made()])
    assert b"cloudpickle" in reduction.dumps_bytes([made(), *map(str, range(50_000))])


@contextmanager
def elsewhere() -> Iterator[None]:
    """Load as a process that knows no class of a script yet."""
    pickled.arrive_at(World(OrderedDict()))
    try:
        yield
    finally:
        pickled.arrive_at(HOME)


def test_a_class_goes_by_its_kept_pickle_until_it_changes(made: Any) -> None:
    made.answer = 1
    first = reduction.dumps_bytes(made())
    kept = class_pickles._known.values[id(made)]
    assert reduction.dumps_bytes(made()) == first
    assert class_pickles._known.values[id(made)] is kept
    made.answer = 2
    second = reduction.dumps_bytes(made())
    for sent, answer in ((first, 1), (second, 2)):
        with elsewhere():
            found = reduction.loads(sent)
            again = reduction.loads(sent)
        assert (found.answer, type(found) is made) == (answer, False)
        assert type(again) is type(found)
    assert type(reduction.loads(first)) is made


def test_a_class_and_what_it_derives_from_are_the_same_for_all_that_comes(made: Any) -> None:
    derived = type("Derived", (made,), {"__module__": "__main__"})
    sent = [reduction.dumps_bytes(one) for one in (derived(), made(), [made(), derived()])]
    with elsewhere():
        lower, upper, both = map(reduction.loads, sent)
    assert isinstance(lower, type(upper))
    assert list(map(type, both)) == [type(upper), type(lower)]


def test_what_a_class_holds_is_reduced_anew_each_time_if_something_is_registered_for_it(
    made: Any,
) -> None:
    registered: dict[type, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    made.thing = Thing()
    try:
        for day in (dt.date(1999, 1, 1), dt.date(2000, 1, 1)):
            ForkingPickler.register(Thing, partial(as_day, day))
            sent = reduction.dumps_bytes(made())
            with elsewhere():
                assert reduction.loads(sent).thing == day
    finally:
        del registered[Thing]


def test_of_a_class_that_changes_with_each_object_no_pickle_is_kept(made: Any) -> None:
    for made.count in range(10):
        sent = reduction.dumps_bytes(made())
        with elsewhere():
            assert reduction.loads(sent).count == made.count
    assert class_pickles._known.values[id(made)].reduced is None
