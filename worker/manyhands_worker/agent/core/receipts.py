"""Items of queues that members were handed, until the broker knows that they have them.

A member's next request tells the broker which answer it received last, and that is receipt enough. For a
member that asks nothing more the agent says it, `CONFIRM_SECONDS` later or before the member's end. The
broker gives items without a receipt to others, once their getter has ended.
"""

from __future__ import annotations

from collections import OrderedDict

from manyhands_shared.protocol.messages.coordination import ItemsTaken

CONFIRM_SECONDS = 0.005


class Receipts:
    """Requests of members whose answers brought items, in the order of these answers."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[bytes, dict[int, None]] = OrderedDict()
        #: When a member's receipt is due; in order.
        self._due: OrderedDict[bytes, float] = OrderedDict()

    @property
    def deadline(self) -> float | None:
        """When the first receipt is due."""
        return next(iter(self._due.values()), None)

    def note(self, member: bytes, number: int, now: float) -> None:
        """An item was handed to a member, with the answer to this request."""
        self._numbers.setdefault(member, {})[number] = None
        self._due.setdefault(member, now + CONFIRM_SECONDS)

    def settled(self, member: bytes, number: int) -> None:
        """The member says that the answer to this request was the last that it received."""
        numbers = self._numbers.get(member)
        if numbers is None or number not in numbers:
            return
        for one in list(numbers):
            del numbers[one]
            if one == number:
                break
        if not numbers:
            del self._numbers[member], self._due[member]

    def take(self, member: bytes) -> ItemsTaken | None:
        """Return the receipt of a member, if one is open."""
        numbers = self._numbers.pop(member, None)
        if numbers is None:
            return None
        del self._due[member]
        return ItemsTaken(member, list(numbers))

    def due(self, now: float) -> list[ItemsTaken]:
        """Return the receipts that are due."""
        members = []
        for member, due in self._due.items():
            if due > now:
                break
            members.append(member)
        return [receipt for member in members if (receipt := self.take(member)) is not None]
