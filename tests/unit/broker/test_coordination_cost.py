"""What an operation on a shared object costs the broker, in calls: each machine makes as many."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.worlds.coordinator import ROOT, AgentsWorld
from manyhands_broker.coordination_driver import CoordinationDriver
from manyhands_broker.core import ANYBODY, Received
from manyhands_broker.core.fault_isolation import Breakdowns
from manyhands_broker.write_ahead_log import WriteAheadLog
from manyhands_shared.clock import monotonic
from manyhands_shared.coordination.kinds import Kind, Operation
from manyhands_shared.protocol import wire
from manyhands_shared.protocol.messages import Message
from manyhands_shared.protocol.messages.coordination import Request, Response

KEY = b"k" * 16
PAIRS = 20


def calls(of: Callable[[], object]) -> int:
    """Return how many functions a call of this one calls, those written in C too."""
    counted = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        of()
    finally:
        sys.setprofile(before)
    return counted


@pytest.mark.parametrize(
    ("kind", "facts", "pair", "most"),
    [
        (
            Kind.SEMAPHORE,
            [1, 100],
            [(Operation.ACQUIRE, [True, None, 1], False), (Operation.RELEASE, [], True)],
            270,
        ),
        (Kind.EVENT, [], [(Operation.SET, [], True), (Operation.WAIT, [True, None], False)], 255),
    ],
    ids=["semaphore", "event"],
)
def test_an_operation_costs_the_broker_few_calls(
    tmp_path: Path,
    kind: Kind,
    facts: list[int],
    pair: Sequence[tuple[Operation, list[Any], bool]],
    most: int,
) -> None:
    world = AgentsWorld()
    world.connect("a")
    world.begin_program()
    log = WriteAheadLog(tmp_path, monotonic)
    driver = CoordinationDriver(
        lambda: world.coordinator, log, Breakdowns(Counter(), lambda _level, _text: None)
    )
    answers: list[Message] = []
    number = 1

    def send(_peer: bytes, message: Message) -> bool:
        wire.encode(message)
        answers.append(message)
        return True

    def ask(operation: Operation, arguments: list[Any], quiet: bool) -> None:
        nonlocal number
        request = Request(ROOT, number, number - 1, KEY, operation, quiet, arguments, [])
        number += 1
        message = wire.decode(wire.encode(request))
        driver.take(Received(b"a", message, ANYBODY), world.now)
        driver.finish(world.now, send, lambda _: None)

    def pairs() -> None:
        for _ in range(PAIRS):
            for step in pair:
                ask(*step)

    ask(Operation.CREATE, [int(kind), facts, "p.py:1"], False)
    pairs()
    answers.clear()
    counted = calls(pairs)
    assert [type(answer) for answer in answers] == [Response] * PAIRS
    assert counted / PAIRS <= most
    log.close()
