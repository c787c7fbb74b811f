"""Futures as arguments of other calls, on a real cluster of one's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

import manyhands
from harness.processes import eventually
from manyhands import LocalCluster

#: Large enough to be held by its node.
LARGE = 200_000


@pytest.fixture(scope="module")
def executor() -> Iterator[manyhands.Executor]:
    with manyhands.Executor(2) as executor:
        yield executor


@dataclass
class Pair:
    left: Any
    right: Any


def add(left: Any, right: Any) -> Any:
    return left + right


def add_pair(pair: Pair) -> Any:
    return pair.left + pair.right


def gated(path: str, value: Any) -> Any:
    """Return `value` once there is a file at `path`."""
    until = monotonic() + 60
    while not os.path.exists(path):  # noqa: PTH110 - polled
        assert monotonic() < until
        sleep(0.002)
    return value


def fails(_: Any) -> None:
    raise ValueError("no")


def total_of(numbers: list[Any]) -> Any:
    return sum(numbers)


def ones(size: Any) -> Any:
    return np.ones(size)


def total(parts: list[Any]) -> float:
    return float(sum(part.sum() for part in parts))


def scale(array: Any) -> Any:
    array *= 3
    return array


def test_futures_in_every_place(executor: manyhands.Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first: Future[int] = executor.submit(gated, str(gate), 5)
    plain = executor.submit(add, first, 1)
    listed = executor.submit(total_of, [first, plain])
    in_dict = executor.submit(dict.get, {"x": first}, "x")
    in_class = executor.submit(add_pair, Pair(first, listed))
    mapped = executor.map(add, [first, plain], [1, 1])
    gate.touch()
    assert [one.result(60) for one in (plain, listed, in_dict, in_class)] == [6, 11, 5, 16]
    assert list(mapped) == [6, 7]
    # It has ended, and its value goes along.
    assert executor.submit(add, first, listed).result(60) == 16


def test_a_failed_input_fails_the_call_with_its_exception_and_a_note(
    executor: manyhands.Executor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    bad = executor.submit(fails, executor.submit(gated, str(gate), 1))
    behind = executor.submit(add, executor.submit(add, bad, 1), 1)
    gate.touch()
    error = behind.exception(60)
    assert isinstance(error, ValueError)
    assert "was to be given" in "".join(error.__notes__)
    # So does one that is submitted when the input has failed already.
    assert isinstance(executor.submit(add, bad, 1).exception(60), ValueError)


def test_cancelling_an_input_cancels_what_needs_it(
    executor: manyhands.Executor, tmp_path: Path
) -> None:
    first = executor.submit(gated, str(tmp_path / "never"), 1)
    behind = executor.submit(add, executor.submit(add, first, 1), 1)
    assert first.cancel()
    with pytest.raises(CancelledError):
        behind.result(60)


def test_large_results_stay_on_their_node_until_they_are_asked_for(
    executor: manyhands.Executor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    size = executor.submit(gated, str(gate), LARGE)
    source = executor.submit(ones, size)
    left, right = executor.submit(scale, source), executor.submit(add, source, 1)
    end = executor.submit(total, [left, right])
    gate.touch()
    assert end.result(60) == 5 * LARGE
    assert "pending" in repr(source)
    # What one task writes to its argument no other one sees, nor does the user.
    assert source.result(60).sum() == LARGE
    assert left.result(60).sum() == 3 * LARGE
    source.result()[0] = 7
    assert not wait([right], 60).not_done


def test_dropped_futures_need_not_come(executor: manyhands.Executor) -> None:
    end = executor.submit(total, [executor.submit(ones, LARGE) for _ in range(4)])
    assert end.result(60) == 4 * LARGE


def test_a_lost_input_is_made_again(tmp_path: Path) -> None:
    with (
        LocalCluster(nodes=2, slots=2) as cluster,
        manyhands.Executor(address=cluster.address) as executor,
        manyhands.Client(cluster.address) as client,
    ):
        gate = tmp_path / "gate"
        source = executor.submit(ones, LARGE)
        behind = executor.submit(add, source, executor.submit(gated, str(gate), 1))
        eventually(lambda: any(node["lent"] for node in client.query("nodes")))
        [holder] = [node for node in client.query("nodes") if node["lent"]]
        os.kill(holder["pid"], signal.SIGKILL)
        eventually(lambda: len(client.query("nodes")) == 1)
        gate.touch()
        assert behind.result(60).sum() == 2 * LARGE


def test_what_cannot_be_an_argument_is_said(executor: manyhands.Executor, tmp_path: Path) -> None:
    waiting = executor.submit(gated, str(tmp_path / "never"), 1)
    with pytest.raises(manyhands.SubmitError, match="pass the future as an argument"):
        executor.submit(lambda: waiting).result(60)
    with (
        manyhands.Executor(1) as other,
        pytest.raises(manyhands.SubmitError, match="another session"),
    ):
        other.submit(add, waiting, 1).result(60)
    waiting.cancel()
