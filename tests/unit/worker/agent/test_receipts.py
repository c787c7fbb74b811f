"""When the broker is told which items members have."""

from __future__ import annotations

from manyhands_shared.protocol.messages.coordination import ItemsTaken
from manyhands_worker.agent.core.receipts import CONFIRM_SECONDS, Receipts

A, B = b"A" * 16, b"B" * 16


def test_a_receipt_is_due_shortly_after_the_first_item() -> None:
    receipts = Receipts()
    receipts.note(A, 3, 10.0)
    receipts.note(A, 5, 10.004)
    receipts.note(B, 1, 10.004)
    assert receipts.deadline == 10.0 + CONFIRM_SECONDS
    assert receipts.due(10.0) == []
    assert receipts.due(10.0 + CONFIRM_SECONDS) == [ItemsTaken(A, [3, 5])]
    assert receipts.due(11.0) == [ItemsTaken(B, [1])]
    assert receipts.deadline is None


def test_a_member_that_asks_on_needs_no_receipt() -> None:
    receipts = Receipts()
    receipts.note(A, 3, 10.0)
    receipts.note(A, 2, 10.001)
    receipts.settled(A, 7)
    receipts.settled(B, 3)
    receipts.settled(A, 3)
    assert receipts.take(A) == ItemsTaken(A, [2])
    receipts.note(A, 8, 10.0)
    receipts.settled(A, 8)
    assert [receipts.take(A), receipts.take(B), receipts.deadline] == [None, None, None]
