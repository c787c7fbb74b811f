"""A semaphore: a number of tokens, that any member may give back, and those who wait for one."""

from __future__ import annotations

from typing import Any, ClassVar

from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.coordination.rules.model import (
    Answer,
    Answers,
    Asked,
    Op,
    SyncObject,
    Waiter,
    ensure,
    in_order,
)

#: With the answer that gives a token.
_TOKEN = ("token",)


class SemaphoreRules(SyncObject):
    """State of a semaphore.

    Attributes:
        value: tokens that are there.
        most: how many there may be; a bounded semaphore begins with as many.
        queue: who waits for a token, in order.
    """

    kind: ClassVar = Kind.SEMAPHORE
    __slots__ = ("most", "queue", "value")

    def __init__(self, value: int, most: int) -> None:
        super().__init__()
        self.value = value
        self.most = most
        self.queue: dict[Op, Waiter] = {}

    def request(self, asked: Asked, now: float) -> Answers:
        """Do an operation; without an answer of its own, the request waits."""
        op, operation, arguments = asked.op, asked.operation, asked.arguments
        if operation is Operation.ACQUIRE:
            return self._acquire(op, arguments, now)
        if operation is Operation.RELEASE:
            if self.value >= self.most:
                return [Answer(op, Outcome.TOO_MANY)]
            return [Answer(op, Outcome.OK), *self._give_back()]
        return [Answer(op, Outcome.OK, (self.value,))]

    def _acquire(self, op: Op, arguments: Any, now: float) -> Answers:
        block, seconds, thread = arguments
        if self.value:
            self.value -= 1
            self.changes.state = True
            return [Answer(op, Outcome.OK, _TOKEN)]
        if not block:
            return [Answer(op, Outcome.NO)]
        self.queue[op] = self.wait(op, Operation.ACQUIRE, seconds, now, thread)
        return []

    def _give_back(self) -> Answers:
        """Put a token back: the first that waits gets it."""
        if not self.queue:
            self.value += 1
            self.changes.state = True
            return []
        op = next(iter(self.queue))
        self._forget(op)
        return [Answer(op, Outcome.OK, _TOKEN)]

    def _forget(self, op: Op) -> None:
        if self.queue.pop(op, None) is not None:
            self.changes.waiters[op] = None

    def waiting(self) -> dict[Op, Waiter]:
        """Return all that wait for a token."""
        return dict(self.queue)

    def find(self, op: Op) -> Waiter | None:
        """Return a request that waits."""
        return self.queue.get(op)

    def withdraw(self, op: Op) -> Answers:
        """Take out a request that waits."""
        self._forget(op)
        return []

    def undo(self, answer: Answer) -> Answers:
        """Put back the token that `ACQUIRE` gave; what else was answered gave none."""
        # A semaphore that others have filled meanwhile has no room for it.
        if (
            answer.outcome is not Outcome.OK
            or answer.arguments != _TOKEN
            or self.value >= self.most
        ):
            return []
        return self._give_back()

    def state(self) -> list[Any]:
        """Return all but waiting requests."""
        return [self.next_order, self.value, self.most]

    def restore(self, state: Any, waiting: dict[Op, Waiter]) -> None:
        """Become what was written."""
        self.next_order, self.value, self.most = state
        self.queue = dict(sorted(waiting.items(), key=lambda one: one[1].order))

    def validate(self) -> None:
        """Check every invariant."""
        ensure(0 <= self.value <= self.most, "a semaphore's value is out of its bounds")
        ensure(not self.value or not self.queue, "a semaphore with tokens is waited for")
        ensure(in_order(self.queue), "requests for a semaphore wait out of order")
