"""What nodes report of themselves is counted by kind, within bounds."""

from __future__ import annotations

from manyhands_broker.core import Core, Limits, Received
from manyhands_broker.core.state.scheduler_state import MAX_EVENT_KINDS
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m


def test_a_node_that_makes_up_kinds_makes_nothing_grow() -> None:
    core = Core(Limits(), bytes(16), MemoryJournal(), 0.0)
    core.handle(Received(b"n", m.WorkerHello(1, "n", b"n" * 16, 1, 8, [], {})), 0.0)
    core.handle(Received(b"n", m.Event("child-died", "once", {})), 0.0)
    count = 10 * MAX_EVENT_KINDS
    for number in range(count):
        core.handle(Received(b"n", m.Event(f"made-up-{number}", "", {})), 0.0)
    core.handle(Received(b"n", m.Event("child-died", "twice", {})), 0.0)
    told = {name: n for name, n in core.state.counters.items() if name.startswith("events_")}
    assert len(told) == MAX_EVENT_KINDS + 1
    assert told["events_child-died"] == 2
    assert sum(told.values()) == count + 2
