"""What the broker is told of items that members were handed."""

from __future__ import annotations

from manyhands_shared.protocol.messages.coordination import ItemsTaken
from manyhands_worker.agent.core.unacknowledged_items import UnacknowledgedItems

A, B = b"A" * 16, b"B" * 16


def test_a_member_that_ends_has_had_what_was_handed_to_it() -> None:
    unacknowledged_items = UnacknowledgedItems()
    unacknowledged_items.note(A, 3)
    unacknowledged_items.note(B, 1)
    unacknowledged_items.note(A, 5)
    assert [unacknowledged_items.take(A), unacknowledged_items.take(A)] == [
        ItemsTaken(A, [3, 5]),
        None,
    ]
    assert unacknowledged_items.take(B) == ItemsTaken(B, [1])


def test_what_a_member_has_said_or_does_not_want_is_not_said_again() -> None:
    unacknowledged_items = UnacknowledgedItems()
    for number in (3, 2, 7):
        unacknowledged_items.note(A, number)
    # Of another request, and of another member.
    unacknowledged_items.settled(A, 9)
    unacknowledged_items.settled(B, 3)
    unacknowledged_items.settled(A, 3)
    unacknowledged_items.forget(A, [7, 8])
    assert unacknowledged_items.take(A) == ItemsTaken(A, [2])
    unacknowledged_items.note(A, 8)
    unacknowledged_items.settled(A, 8)
    assert unacknowledged_items.take(A) is None
