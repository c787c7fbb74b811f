"""Values to payloads and back."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyhands_shared.errors import SubmitError
from manyhands_shared.payloads import pickled
from manyhands_shared.payloads.payload import nbytes, total

LARGE = pickled.INLINE_BYTES


def back(value: Any) -> Any:
    return pickled.loads(pickled.dumps(value))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text()
        | st.binary(),
        lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_built_in_values_come_back_and_are_plain(value: Any) -> None:
    payload = pickled.dumps(value)
    assert pickled.loads(payload) == value
    assert isinstance(payload, bytes)
    assert nbytes(payload) == len(payload)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(LARGE, dtype=np.float64),
        np.asfortranarray(np.arange(200_000.0).reshape(400, 500)),
        np.zeros(LARGE, dtype=[("a", "i4"), ("b", "f8", (2,))]),
        np.arange(LARGE) > 5,
        np.arange(LARGE, dtype=np.complex128),
    ],
    ids=["c-order", "f-order", "structured", "bool", "complex"],
)
def test_large_arrays_travel_out_of_band_and_come_back_equal(array: Any) -> None:
    payload = pickled.dumps({"nested": (array, 1)})
    assert isinstance(payload, tuple)
    assert nbytes(payload[1:]) == array.nbytes
    assert len(payload[0]) < 1_000
    again = pickled.loads(payload)["nested"][0]
    assert again.dtype == array.dtype
    assert again.flags.f_contiguous == array.flags.f_contiguous
    np.testing.assert_array_equal(again, array)


def test_an_out_of_band_buffer_is_the_array_itself() -> None:
    array = np.zeros(LARGE)
    payload = pickled.dumps(array)
    array[7] = 1.0
    assert pickled.loads(payload)[7] == 1.0


@pytest.mark.parametrize(
    "array", [np.zeros(()), np.zeros(0), np.zeros((0, 5)), np.arange(9.0)[::2], np.arange(4)]
)
def test_small_arrays_are_one_pickle(array: Any) -> None:
    payload = pickled.dumps(array)
    assert isinstance(payload, bytes)
    np.testing.assert_array_equal(pickled.loads(payload), array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(4 * LARGE, dtype=np.float64)[::2],
        np.zeros(LARGE, dtype="datetime64[s]"),
        np.array([{"a": 1}] * LARGE, dtype=object),
    ],
    ids=["strided", "dates", "objects"],
)
def test_large_arrays_that_cannot_go_out_of_band_come_back_equal(array: Any) -> None:
    np.testing.assert_array_equal(back(array), array)


def test_buffers_that_a_failed_first_try_handed_out_do_not_count() -> None:
    # Plain pickle gives the array away as a buffer before it fails at the lambda.
    array, function = back((np.arange(LARGE, dtype=np.float64), lambda: 7))
    assert array[5] == 5
    assert function() == 7


def test_lambdas_and_closures_come_back() -> None:
    base = 10
    assert back(lambda value: value + base)(5) == 15


def test_what_main_defines_loads_in_another_interpreter() -> None:
    script = """
import sys
from manyhands_shared.payloads import pickled
class Point:
    def __init__(self, x): self.x = x
    def double(self): return self.x * 2
payload = pickled.dumps(Point(21))
assert isinstance(payload, bytes)
sys.stdout.buffer.write(payload)
"""
    payload = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout
    assert pickled.loads(payload).double() == 42


def test_dumps_raises_what_the_value_raises() -> None:
    class Sour:
        def __reduce__(self) -> str:
            raise ZeroDivisionError("sour")

    with pytest.raises(ZeroDivisionError, match="sour"):
        pickled.dumps(Sour())


def test_by_value_names_what_cannot_be_pickled() -> None:
    with pytest.raises(SubmitError, match=r"lock.*inside the task"):
        pickled.dumps_by_value(threading.Lock())


@pytest.mark.parametrize(
    "value", [1, 2.5, "text", b"bytes", None, [1, {"a": (2, 3)}], {1, 2}, frozenset({"x"})]
)
def test_built_in_values_are_plain(value: Any) -> None:
    assert pickled.is_plain(pickled.dumps(value))


@pytest.mark.parametrize("value", [ValueError("x"), print, np.zeros(3), np.zeros(LARGE), [1 + 2j]])
def test_what_reaches_code_is_not_plain(value: Any) -> None:
    payload, knows_plain = pickled.dumps_and_tell(value)
    assert not knows_plain
    assert not pickled.is_plain(payload)


@pytest.mark.parametrize(
    "value",
    [
        list(range(30_000)),
        tuple(number / 9.7 for number in range(1000)),
        {number: [(number, "Г")] for number in range(1000)},
        set(range(1000)),
    ],
)
def test_long_values_are_plain_whatever_bytes_are_in_them(value: Any) -> None:
    payload, is_plain = pickled.dumps_and_tell(value)
    assert isinstance(payload, bytes)
    assert pickled.STACK_GLOBAL in payload  # which a short one takes for a name
    assert is_plain
    assert pickled.loads(payload) == value


def test_one_object_of_a_class_at_the_end_of_a_long_value_is_seen() -> None:
    numbers: list[Any] = list(range(1000))
    for last in (print, ValueError, ValueError("x"), 1 + 2j, np.int64(1), [(ValueError,)]):
        assert not pickled.dumps_and_tell([*numbers, last])[1]


def test_long_values_with_arrays_and_functions_by_value() -> None:
    arrays = [np.full(LARGE // 64, number, np.uint8) for number in range(100)]
    payload, is_plain = pickled.dumps_and_tell(arrays)
    assert not is_plain
    assert isinstance(payload, tuple)
    assert len(payload) == 101
    assert all(map(np.array_equal, pickled.loads(payload), arrays))
    functions = [lambda number=number: number for number in range(100)]
    payload, is_plain = pickled.dumps_and_tell(functions)
    assert not is_plain
    assert [function() for function in pickled.loads(payload)] == list(range(100))


def test_total_counts_all_payloads() -> None:
    assert total([b"abc", (b"d", memoryview(bytearray(8)))]) == 12
    assert total([]) == 0


def test_payloads_are_protocol_five() -> None:
    assert pickle.loads(bytes(pickled.dumps([1]))) == [1]
    assert bytes(pickled.dumps([1]))[:2] == b"\x80\x05"


class _Array(np.ndarray):
    """An array of a class of its own, as libraries make them."""


def _frozen() -> tuple[Any, Any]:
    array = np.zeros(LARGE)
    array.flags.writeable = False

    def change() -> None:
        array.setflags(write=True)
        array.fill(1)

    return array, change


def _view(wrap: Any) -> Any:
    def make() -> tuple[Any, Any]:
        base = np.zeros(LARGE)
        view = base.view()
        view.flags.writeable = False
        return wrap(view), lambda: base.fill(1)

    return make


def _raw(wrap: Any) -> Any:
    def make() -> tuple[Any, Any]:
        base = bytearray(8 * LARGE)
        return wrap(memoryview(base).toreadonly()), lambda: base.__setitem__(slice(0, 4), b"\1" * 4)

    return make


@pytest.mark.parametrize(
    "make",
    [
        _frozen,
        _view(lambda view: view),
        _view(lambda view: view[100:]),
        _view(lambda view: view.reshape(2, -1).T),
        _view(lambda view: view.view(_Array)),
        _view(lambda view: np.broadcast_to(view, (2, LARGE))),
        _view(pickle.PickleBuffer),
        _view(lambda view: np.frombuffer(memoryview(view))),
        _raw(pickle.PickleBuffer),
        _raw(lambda view: pickle.PickleBuffer(view[:LARGE])),
        _raw(lambda view: np.frombuffer(view, dtype="u1")),
    ],
)
def test_a_snapshot_is_what_the_buffers_were(make: Any) -> None:
    value, change = make()
    payload = pickled.snapshot(pickled.dumps(value))
    change()
    assert not np.asarray(memoryview(pickled.loads(payload))).any()


@pytest.mark.parametrize("view", [bytes, memoryview, lambda data: memoryview(data)[8:]])
def test_a_snapshot_does_not_copy_what_never_changes(view: Any) -> None:
    data = bytes(8 * LARGE)
    payload = pickled.dumps(np.frombuffer(view(data)))
    assert pickled.snapshot(payload) == payload
    assert all(a is b for a, b in zip(pickled.snapshot(payload), payload, strict=True))


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda part: memoryview(bytes(part))])
def test_arrays_can_be_written_to_as_where_they_came_from(kind: Any) -> None:
    array, frozen = np.zeros(LARGE), np.zeros(LARGE)
    frozen.flags.writeable = False
    head, *buffers = pickled.dumps([array, frozen])
    payload = (head, *map(kind, buffers))
    loaded, still_frozen = pickled.loads(payload)
    loaded += 1
    assert loaded.sum() == LARGE
    assert not still_frozen.flags.writeable
    if kind is not bytearray:
        assert not pickled.loads(payload)[0].any()
    shared = pickled.loads_shared((head, *map(bytes, buffers)))
    assert not shared[0].flags.writeable
