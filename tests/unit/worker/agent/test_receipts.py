"""What the broker is told of items that members were handed."""

from __future__ import annotations

from manyhands_shared.protocol.messages.coordination import ItemsTaken
from manyhands_worker.agent.core.receipts import Receipts

A, B = b"A" * 16, b"B" * 16


def test_a_member_that_ends_has_had_what_was_handed_to_it() -> None:
    receipts = Receipts()
    receipts.note(A, 3)
    receipts.note(B, 1)
    receipts.note(A, 5)
    assert [receipts.take(A), receipts.take(A)] == [ItemsTaken(A, [3, 5]), None]
    assert receipts.take(B) == ItemsTaken(B, [1])


def test_what_a_member_has_said_or_does_not_want_is_not_said_again() -> None:
    receipts = Receipts()
    for number in (3, 2, 7):
        receipts.note(A, number)
    # Of another request, and of another member.
    receipts.settled(A, 9)
    receipts.settled(B, 3)
    receipts.settled(A, 3)
    receipts.forget(A, [7, 8])
    assert receipts.take(A) == ItemsTaken(A, [2])
    receipts.note(A, 8)
    receipts.settled(A, 8)
    assert receipts.take(A) is None
