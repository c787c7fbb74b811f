"""What members said and the broker may not have: it is said again after a lost link, in order."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from manyhands_shared.protocol.messages import Message

#: In place of a request's number: the start of a member.
STARTED = -1


class Repeats:
    """Two kinds of messages, each with its place in the order of all.

    What has an answer is kept until the answer comes. The rest is kept until the broker answers a
    `Renew` that was sent behind it: then it has arrived.
    """

    def __init__(self) -> None:
        self._place = 0
        self._unanswered: dict[tuple[bytes, int], tuple[int, Message]] = {}
        self._numbers: dict[bytes, set[int]] = {}
        self._quiet: deque[tuple[int, Message]] = deque()

    def __len__(self) -> int:
        return len(self._unanswered) + len(self._quiet)

    @property
    def place(self) -> int:
        """The place of what was said last."""
        return self._place

    def ask(self, member: bytes, number: int, message: Message) -> None:
        """Keep a message about a member until `answered` is called."""
        self._place += 1
        self._unanswered[member, number] = self._place, message
        self._numbers.setdefault(member, set()).add(number)

    def is_asked(self, member: bytes, number: int) -> bool:
        """Return whether a message about a member waits for its answer."""
        return (member, number) in self._unanswered

    def asked(self, member: bytes, number: int) -> Message | None:
        """Return a message about a member that waits for its answer."""
        found = self._unanswered.get((member, number))
        return None if found is None else found[1]

    def answered(self, member: bytes, number: int) -> bool:
        """Forget a message; return whether it was there."""
        if self._unanswered.pop((member, number), None) is None:
            return False
        numbers = self._numbers[member]
        numbers.discard(number)
        if not numbers:
            del self._numbers[member]
        return True

    def tell(self, message: Message) -> None:
        """Keep a message that has no answer until the broker is known to have it."""
        self._place += 1
        self._quiet.append((self._place, message))

    def arrived(self, place: int) -> None:
        """Forget what has no answer, up to a place."""
        while self._quiet and self._quiet[0][0] <= place:
            self._quiet.popleft()

    def forget(self, member: bytes) -> None:
        """Forget what a member asked that has ended."""
        for number in self._numbers.pop(member, ()):
            del self._unanswered[member, number]

    def __iter__(self) -> Iterator[Message]:
        """All of it, in the order in which it was said."""
        for _, message in heapq.merge(self._unanswered.values(), self._quiet, key=_place_of):
            yield message


def _place_of(one: tuple[int, Message]) -> int:
    return one[0]
