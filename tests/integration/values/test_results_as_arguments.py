"""Futures as arguments of other calls, on a real cluster of one's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest

import manyhands
from harness.processes import Gate, eventually, wait_at
from manyhands import LocalCluster

BOUND = 100.0
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
    """Return `value` once the `Gate` at `path` is open."""
    wait_at(Path(path))
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
    gate = Gate(tmp_path / "gate")
    first: Future[int] = executor.submit(gated, str(gate.path), 5)
    plain = executor.submit(add, first, 1)
    listed = executor.submit(total_of, [first, plain])
    in_dict = executor.submit(dict.get, {"x": first}, "x")
    in_class = executor.submit(add_pair, Pair(first, listed))
    mapped = executor.map(add, [first, plain], [1, 1])
    gate.open()
    assert [one.result(BOUND) for one in (plain, listed, in_dict, in_class)] == [6, 11, 5, 16]
    assert list(mapped) == [6, 7]
    # It has ended, and its value goes along.
    assert executor.submit(add, first, listed).result(BOUND) == 16


def test_a_failed_input_fails_the_call_with_its_exception_and_a_note(
    executor: manyhands.Executor, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    bad = executor.submit(fails, executor.submit(gated, str(gate.path), 1))
    behind = executor.submit(add, executor.submit(add, bad, 1), 1)
    gate.open()
    error = behind.exception(BOUND)
    assert isinstance(error, ValueError)
    assert "was to be given" in "".join(error.__notes__)
    # So does one that is submitted when the input has failed already.
    assert isinstance(executor.submit(add, bad, 1).exception(BOUND), ValueError)


def test_cancelling_an_input_cancels_what_needs_it(
    executor: manyhands.Executor, gate: Gate
) -> None:
    first = executor.submit(gated, str(gate.path), 1)
    behind = executor.submit(add, executor.submit(add, first, 1), 1)
    assert first.cancel()
    with pytest.raises(CancelledError):
        behind.result(BOUND)


def test_large_results_stay_on_their_node_until_they_are_asked_for(
    executor: manyhands.Executor, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    size = executor.submit(gated, str(gate.path), LARGE)
    source = executor.submit(ones, size)
    left, right = executor.submit(scale, source), executor.submit(add, source, 1)
    end = executor.submit(total, [left, right])
    gate.open()
    assert end.result(BOUND) == 5 * LARGE
    assert "pending" in repr(source)
    # What one task writes to its argument no other one sees, nor does the user.
    assert source.result(BOUND).sum() == LARGE
    assert left.result(BOUND).sum() == 3 * LARGE
    source.result()[0] = 7
    assert not wait([right], BOUND).not_done


def test_dropped_futures_need_not_come(executor: manyhands.Executor) -> None:
    end = executor.submit(total, [executor.submit(ones, LARGE) for _ in range(4)])
    assert end.result(BOUND) == 4 * LARGE


def test_a_kept_result_stays_on_its_node_until_it_is_asked_for_or_dropped(
    executor: manyhands.Executor,
) -> None:
    def lent() -> int:
        return sum(node["lent"] for node in client.query("nodes"))

    with manyhands.Client(executor.address) as client:
        eventually(lambda: lent() == 0)
        keeping = executor.with_options(keep=True)
        kept, dropped, small = (keeping.submit(ones, size) for size in (LARGE, LARGE, 3))
        eventually(lambda: lent() == 2)
        assert executor.submit(total, [kept]).result(BOUND) == LARGE
        assert "pending" in repr(kept)
        assert lent() == 2
        del dropped
        eventually(lambda: lent() == 1)
        assert kept.result(BOUND).sum() == LARGE
        assert small.result(BOUND).sum() == 3
        eventually(lambda: lent() == 0)


def test_a_kept_result_comes_when_the_executor_is_shut_down() -> None:
    with manyhands.Executor(1, keep=True) as executor:
        kept = executor.submit(ones, LARGE)
    assert kept.result(0).sum() == LARGE


def test_a_program_ends_whose_results_stay_with_their_nodes(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import manyhands, numpy\n"
        "if __name__ == '__main__':\n"
        "    executor = manyhands.Executor(1)\n"
        "    kept = executor.with_options(keep=True).submit(numpy.ones, 200_000)\n"
        "    source = executor.submit(numpy.ones, 200_000)\n"
        "    print(executor.submit(numpy.sum, source).result())\n"
    )
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (0, "200000.0\n"), done.stderr


def test_gather_brings_the_results_in_the_shape_of_what_it_is_given(
    executor: manyhands.Executor,
) -> None:
    one, two = executor.submit(add, 0, 1), executor.submit(add, 1, 1)
    large = executor.with_options(keep=True).submit(ones, LARGE)
    found = executor.gather({"x": [one, (two, "word")], "y": {one}, "z": large}, timeout=BOUND)
    assert found.pop("z").sum() == LARGE
    assert found == {"x": [1, (2, "word")], "y": {1}}
    assert executor.gather(one) == 1
    with pytest.raises(ValueError, match="no"):
        executor.gather([one, executor.submit(fails, 1)])
    [error] = executor.gather([executor.submit(fails, 1)], return_exceptions=True)
    assert isinstance(error, ValueError)


def test_the_calls_of_a_chain_are_tasks_of_one_job(
    executor: manyhands.Executor, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    last = executor.submit(gated, str(gate.path), 0)
    chain = executor.with_options(name="chain")
    for _ in range(50):
        last = chain.submit(add, last, 1)
    with manyhands.Client(executor.address) as client:

        def jobs() -> list[Any]:
            return [job for job in client.query("jobs") if job["name"] == "chain"]

        eventually(lambda: sum(job["tasks"] for job in jobs()) == 50)
        assert len(jobs()) == 1
    gate.open()
    assert last.result(BOUND) == 50


def half(number: int) -> float:
    return number / 2


def joined(number: float, word: str) -> str:
    return f"{number} {word}"


def test_type_checkers_take_a_future_where_its_result_is_expected(
    executor: manyhands.Executor,
) -> None:
    first = executor.submit(half, executor.submit(int, 8))
    second = executor.submit(joined, first, "of eight")
    assert_type(first, Future[float])
    assert_type(second, Future[str])
    assert second.result(BOUND) == "4.0 of eight"
    executor.submit(half, second).cancel()  # type: ignore[arg-type]


def test_a_lost_input_is_made_again(tmp_path: Path) -> None:
    with (
        LocalCluster(nodes=2, slots=2) as cluster,
        manyhands.Executor(address=cluster.address) as executor,
        manyhands.Client(cluster.address) as client,
    ):
        gate = Gate(tmp_path / "gate")
        source = executor.submit(ones, LARGE)
        behind = executor.submit(add, source, executor.submit(gated, str(gate.path), 1))
        eventually(lambda: any(node["lent"] for node in client.query("nodes")))
        [holder] = [node for node in client.query("nodes") if node["lent"]]
        os.kill(holder["pid"], signal.SIGKILL)
        eventually(lambda: len(client.query("nodes")) == 1)
        gate.open()
        assert behind.result(BOUND).sum() == 2 * LARGE


def test_what_cannot_be_an_argument_is_said(executor: manyhands.Executor, gate: Gate) -> None:
    waiting = executor.submit(gated, str(gate.path), 1)
    with pytest.raises(manyhands.SubmitError, match="pass the future as an argument"):
        executor.submit(lambda: waiting).result(BOUND)
    failed = executor.submit(int, "no number")
    assert isinstance(failed.exception(BOUND), ValueError)
    with pytest.raises(manyhands.SubmitError, match="pass the future as an argument"):
        executor.submit(lambda: (failed.result(), 1)).result(BOUND)
    with (
        manyhands.Executor(1) as other,
        pytest.raises(manyhands.SubmitError, match="another session"),
    ):
        other.submit(add, waiting, 1).result(BOUND)
    waiting.cancel()
