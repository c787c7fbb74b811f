"""Results that wait for the user."""

from __future__ import annotations

from manyhands._results.inbox import BoundedInbox


def test_a_full_inbox_has_results_held_back_until_half_of_it_was_taken() -> None:
    said: list[bool] = []
    inbox = BoundedInbox(said.append, full_bytes=10_000)
    inbox.deliver([0], bytes(1), [bytes(9_000)])
    assert said == []
    inbox.deliver([1, 2], bytes(2), [bytes(1_000), (bytes(500), bytes(500))])
    inbox.deliver([3], bytes(1), [bytes(1_000)])  # it was on its way
    assert said == [True]
    assert inbox.take() == (0, 0, bytes(9_000))
    assert said == [True, False]
    inbox.deliver([4], bytes(1), [bytes(20_000)])
    assert said == [True, False, True]
    for _ in range(4):
        inbox.take()
    assert said == [True, False, True, False]
    assert not inbox.arrived
    assert inbox.ended == 5
