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

from manyhands_shared import serial
from manyhands_shared.errors import SubmitError

LARGE = serial.INLINE_BYTES


def back(value: Any) -> Any:
    return serial.loads(serial.dumps(value))


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
    payload = serial.dumps(value)
    assert serial.loads(payload) == value
    assert isinstance(payload, bytes)
    assert serial.nbytes(payload) == len(payload)


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
    payload = serial.dumps({"nested": (array, 1)})
    assert isinstance(payload, tuple)
    assert serial.nbytes(payload[1:]) == array.nbytes
    assert len(payload[0]) < 1_000
    again = serial.loads(payload)["nested"][0]
    assert again.dtype == array.dtype
    assert again.flags.f_contiguous == array.flags.f_contiguous
    np.testing.assert_array_equal(again, array)


def test_an_out_of_band_buffer_is_the_array_itself() -> None:
    array = np.zeros(LARGE)
    payload = serial.dumps(array)
    array[7] = 1.0
    assert serial.loads(payload)[7] == 1.0


@pytest.mark.parametrize(
    "array", [np.zeros(()), np.zeros(0), np.zeros((0, 5)), np.arange(9.0)[::2], np.arange(4)]
)
def test_small_arrays_are_one_pickle(array: Any) -> None:
    payload = serial.dumps(array)
    assert isinstance(payload, bytes)
    np.testing.assert_array_equal(serial.loads(payload), array)


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
from manyhands_shared import serial
class Point:
    def __init__(self, x): self.x = x
    def double(self): return self.x * 2
payload = serial.dumps(Point(21))
assert isinstance(payload, bytes)
sys.stdout.buffer.write(payload)
"""
    payload = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, check=True, timeout=60
    ).stdout
    assert serial.loads(payload).double() == 42


def test_dumps_raises_what_the_value_raises() -> None:
    class Sour:
        def __reduce__(self) -> str:
            raise ZeroDivisionError("sour")

    with pytest.raises(ZeroDivisionError, match="sour"):
        serial.dumps(Sour())


def test_by_value_names_what_cannot_be_pickled() -> None:
    with pytest.raises(SubmitError, match=r"lock.*inside the task"):
        serial.dumps_by_value(threading.Lock())


@pytest.mark.parametrize(
    "value", [1, 2.5, "text", b"bytes", None, [1, {"a": (2, 3)}], {1, 2}, frozenset({"x"})]
)
def test_built_in_values_are_plain(value: Any) -> None:
    assert serial.is_plain(serial.dumps(value))


@pytest.mark.parametrize("value", [ValueError("x"), print, np.zeros(3), np.zeros(LARGE), 1 + 2j])
def test_what_reaches_code_is_not_plain(value: Any) -> None:
    assert not serial.is_plain(serial.dumps(value))


def test_total_counts_all_payloads() -> None:
    assert serial.total([b"abc", (b"d", memoryview(bytearray(8)))]) == 12
    assert serial.total([]) == 0


def test_payloads_are_protocol_five() -> None:
    assert pickle.loads(bytes(serial.dumps([1]))) == [1]
    assert bytes(serial.dumps([1]))[:2] == b"\x80\x05"
