"""What tests of interruptions strike at: the call that they make, and nothing that runs beside it."""

from __future__ import annotations

import weakref

from harness.interruptions import Interrupter, interrupt
from manyhands_shared.text import printable


class Node:
    """Refers to itself, so that only a collection of garbage ends it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_of_earlier_tests_is_no_part_of_a_call() -> None:
    weakref.finalize(Node(), printable, "a finalizer runs code of ours")
    interrupter = Interrupter(interrupt)
    interrupter.run(lambda: [[] for _ in range(100_000)], 0)
    assert interrupter.passed == 0
    interrupter.run(lambda: printable("a call"), 0)
    assert interrupter.passed > 0
