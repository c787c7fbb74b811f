"""What a task is given is what the caller had at the call, and the task's own to write to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import manyhands
from manyhands._session.inputs.input_refs import MIN_BYTES

BOUND = 110.0
#: In the pickle, in a frame, in more than a chunk of the socket, kept by the client.
SIZES = [10, 5_000, 40_000, MIN_BYTES // 8]


def total(array: Any) -> float:
    return float(array.sum())


def bump(*arrays: Any) -> list[float]:
    for array in arrays:
        np.add(array, 1, out=array)
    return [float(array.sum()) for array in arrays]


@pytest.mark.parametrize("size", SIZES)
def test_a_view_for_reading_is_taken_as_it_was_at_the_call(
    executor: manyhands.Executor, size: int
) -> None:
    base = np.zeros(size)
    view = base.view()
    view.flags.writeable = False
    executor.submit(total, view).result(BOUND)
    futures = []
    for n in range(30):
        base[:] = n
        futures.append(executor.submit(total, view))
    base[:] = -1
    assert [future.result(BOUND) for future in futures] == [n * size for n in range(30)]


@pytest.mark.parametrize("size", SIZES)
def test_arguments_and_results_can_be_written_to(executor: manyhands.Executor, size: int) -> None:
    array = np.zeros(size)
    # One that is kept by the client has the others travel beside it.
    large = np.zeros(MIN_BYTES // 8)
    for _ in range(2):
        assert executor.submit(bump, array, large).result(BOUND) == [size, large.size]
        result = executor.submit(np.zeros, size).result(BOUND)
        result += 1
        assert result.sum() == size
    assert not array.any()
    assert not large.any()
