"""tqdm over what pools and executors give back, while tasks still run."""

from __future__ import annotations

import concurrent.futures
import io
from pathlib import Path
from typing import Any

import pytest

from harness.processes import Gate, wait_at
from manyhands import Executor, LocalCluster, Pool

tqdm: Any = pytest.importorskip("tqdm", reason="tqdm is not installed").tqdm


def bar(results: Any, total: int | None = None) -> tuple[Any, io.StringIO]:
    """A bar that draws each step, and where it draws."""
    drawn = io.StringIO()
    return tqdm(results, total=total, file=drawn, mininterval=0, miniters=1, ascii=True), drawn


def pass_or_wait(gate: Path | None) -> str:
    """Return at once, or when the gate is open."""
    return wait_at(gate) if gate else "at once"


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
def test_a_bar_moves_with_each_result_of_a_pool(
    cluster: LocalCluster, gate: Gate, how: str
) -> None:
    with Pool(2, address=cluster.address) as pool:
        items = [*[None] * 5, gate.path]
        shown, drawn = bar(getattr(pool, how)(pass_or_wait, items), total=len(items))
        results = iter(shown)
        assert [next(results) for _ in range(5)] == ["at once"] * 5
        # It counts one as soon as the next is wanted.
        assert "4/6" in drawn.getvalue()
        assert "6/6" not in drawn.getvalue(), "the last still runs"
        gate.open()
        assert list(results) == ["through"]
    assert "100%" in drawn.getvalue()
    assert "6/6" in drawn.getvalue()


def test_the_length_is_known_where_results_are_a_list(cluster: LocalCluster) -> None:
    with Pool(2, address=cluster.address) as pool:
        shown, drawn = bar(pool.map(abs, range(-7, 0)))
        assert list(shown) == [7, 6, 5, 4, 3, 2, 1]
    assert "7/7" in drawn.getvalue()


def test_a_bar_over_futures_of_an_executor(cluster: LocalCluster) -> None:
    with Executor(address=cluster.address) as executor:
        futures = [executor.submit(abs, -number) for number in range(9)]
        ended = concurrent.futures.as_completed(futures, timeout=90)
        shown, drawn = bar(ended, total=len(futures))
        assert sorted(future.result() for future in shown) == list(range(9))
        assert "9/9" in drawn.getvalue()
        shown, drawn = bar(executor.map(abs, range(-8, 0)), total=8)
        assert list(shown) == [8, 7, 6, 5, 4, 3, 2, 1]
        assert "8/8" in drawn.getvalue()
