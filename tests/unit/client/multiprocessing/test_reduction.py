"""What goes through a pipe: plain values at once, everything else by what is registered for it."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import pickle
import sys
from functools import partial
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from manyhands.multiprocessing import reduction

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
