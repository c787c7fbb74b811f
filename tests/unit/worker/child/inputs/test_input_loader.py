"""What a child borrows for its tasks, how often, and for how long."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.pool.child_rig import Child, value
from harness.pool.lending_node import LendingNode
from manyhands_shared import shm
from manyhands_shared.payloads import refs
from manyhands_worker.child.inputs.input_loader import InputLoader

pytestmark = pytest.mark.skipif(not shm.AVAILABLE, reason="memory is lent on Linux only")


@pytest.fixture
def node() -> Iterator[LendingNode]:
    made = LendingNode()
    yield made
    made.close()


@pytest.fixture
def loader(node: LendingNode) -> Iterator[InputLoader]:
    made = InputLoader(node.address)
    yield made
    made.recent.clear()
    if made._borrower is not None:
        made._borrower.close()


def load(loader: InputLoader, *texts: str, private: bool = False) -> list[Any]:
    """Load the arguments of a task, which refer to these."""
    loader.recent.begin()
    found = [loader.bring(LendingNode.place(text), private)[0] for text in texts]
    loader.recent.end()
    return found


@pytest.mark.parametrize("private", [False, True])
def test_tasks_in_a_row_borrow_what_they_share_once(
    node: LendingNode, loader: InputLoader, private: bool
) -> None:
    for _ in range(3):
        [view] = load(loader, "a", private=private)
        assert pickle.loads(view) == "a"
    assert node.asked == ["a"]


def test_what_a_task_writes_to_its_argument_the_next_one_does_not_see(loader: InputLoader) -> None:
    [first] = load(loader, "a", private=True)
    first[:] = bytes(len(first))
    [second] = load(loader, "a", private=True)
    assert pickle.loads(second) == "a"


def test_it_goes_back_when_a_task_is_loaded_that_does_not_need_it(
    node: LendingNode, loader: InputLoader
) -> None:
    load(loader, "a", "b")
    load(loader, "b")
    assert node.is_back("a")
    assert node.returned == ["a"]
    load(loader)
    assert node.is_back("b")


def test_it_goes_back_when_the_child_waits_for_work(node: LendingNode, loader: InputLoader) -> None:
    load(loader, "a")
    work, child = socket.socketpair()
    with work, child:
        work.send(b"x")
        loader.wait(child)
    assert node.is_back("a")


def test_it_goes_back_before_another_is_borrowed(node: LendingNode, loader: InputLoader) -> None:
    load(loader, "a")
    load(loader, "b")
    assert node.returned_before["b"] == ["a"]


def test_it_stays_as_long_as_a_task_looks_at_it(node: LendingNode, loader: InputLoader) -> None:
    [view] = load(loader, "a")
    load(loader, "b")
    load(loader)
    assert node.is_back("b")
    assert node.returned == ["b"]
    assert pickle.loads(view) == "a"
    del view
    assert node.is_back("a")


class Ref:
    """What travels in place of a value that lies elsewhere."""

    def __init__(self, text: str) -> None:
        self._place = LendingNode.place(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return refs.value_of, tuple(self._place)


@pytest.mark.parametrize("kind", [str, Path], ids=["plain", "of a class"])
def test_the_tasks_of_a_batch_share_and_one_without_keeps_nothing(
    node: LendingNode, tmp_path: Path, kind: type[str | Path]
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def look(value: str | Path) -> str:
        return Path(value).read_text() if Path(value).is_absolute() else str(value)

    child = Child(lender=node.address)
    try:
        child.send(look, Ref("a"), Ref("a"), Ref("b"), kind(gate))
        assert node.is_back("b")
        assert node.asked == ["a", "b"]
        assert node.returned_before["b"] == ["a"]
        gate.write_text("open")
        assert [value(body) for _, body in child.ended(4)] == ["a", "a", "b", "open"]
    finally:
        child.close()


def test_a_function_that_is_loaded_for_each_task_borrows_once(node: LendingNode) -> None:
    def both(state: list[Any], value: str) -> str:
        state.append(value)
        return " ".join(state)

    child = Child(lender=node.address)
    try:
        child.send(partial(both, [Ref("state")]), "a", "b", Ref("c"), "d")
        assert [value(body) for _, body in child.ended(4)] == [f"state {x}" for x in "abcd"]
        assert node.asked.count("state") == 1
    finally:
        child.close()
