"""Items of queues that members were handed, until the broker knows that they have them.

A member says itself which items it has. Its next request names the answer that it received last; else
`ItemsTaken` follows a few milliseconds later. A member that ends before that has had what was
handed to it, and the agent says so. An item without a receipt goes to another when its getter has ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from manyhands_shared.protocol.messages.coordination import ItemsTaken


class UnacknowledgedItems:
    """Requests of members whose answers brought items, in the order of these answers."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, dict[int, None]] = {}

    def note(self, member: bytes, number: int) -> None:
        """An item was handed to a member, with the answer to this request."""
        self._numbers.setdefault(member, {})[number] = None

    def settled(self, member: bytes, number: int) -> None:
        """The member says that the answer to this request was the last that it received."""
        numbers = self._numbers.get(member, {})
        if number in numbers:
            self.forget(member, list(numbers)[: list(numbers).index(number) + 1])

    def forget(self, member: bytes, numbers: Iterable[int]) -> None:
        """The member has said itself that it has these items, or that it does not want them."""
        open_ones = self._numbers.get(member)
        if open_ones is not None:
            for number in numbers:
                open_ones.pop(number, None)
            if not open_ones:
                del self._numbers[member]

    def take(self, member: bytes) -> ItemsTaken | None:
        """Return the receipt of a member that has ended, if one is open."""
        numbers = self._numbers.pop(member, None)
        return None if numbers is None else ItemsTaken(member, list(numbers))
