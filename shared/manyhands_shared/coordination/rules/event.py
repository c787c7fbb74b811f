"""An event: a flag, and those who wait until it is set."""

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


class EventRules(SyncObject):
    """State of an event.

    Attributes:
        flag: whether it is set.
        waiters: who waits until it is.
    """

    kind: ClassVar = Kind.EVENT
    __slots__ = ("flag", "waiters")

    def __init__(self) -> None:
        super().__init__()
        self.flag = False
        self.waiters: dict[Op, Waiter] = {}

    def request(self, asked: Asked, now: float) -> Answers:
        """Do an operation; without an answer of its own, the request waits."""
        op, operation, arguments = asked.op, asked.operation, asked.arguments
        if operation is Operation.WAIT:
            block, seconds = arguments
            if self.flag or not block:
                return [Answer(op, Outcome.OK if self.flag else Outcome.NO)]
            self.waiters[op] = self.wait(op, Operation.WAIT, seconds, now)
            return []
        self.flag, self.changes.state = operation is Operation.SET, True
        answers = [Answer(op, Outcome.OK)]
        if self.flag:
            self.changes.waiters.update(dict.fromkeys(self.waiters))
            answers += [Answer(one, Outcome.OK) for one in self.waiters]
            self.waiters.clear()
        return answers

    def waiting(self) -> dict[Op, Waiter]:
        """Return all that wait until it is set."""
        return dict(self.waiters)

    def find(self, op: Op) -> Waiter | None:
        """Return a request that waits."""
        return self.waiters.get(op)

    def withdraw(self, op: Op) -> Answers:
        """Take out a request that waits."""
        if self.waiters.pop(op, None) is not None:
            self.changes.waiters[op] = None
        return []

    def state(self) -> list[Any]:
        """Return all but waiting requests."""
        return [self.next_order, self.flag]

    def restore(self, state: Any, waiting: dict[Op, Waiter]) -> None:
        """Become what was written."""
        self.next_order, self.flag = state
        self.waiters = dict(sorted(waiting.items(), key=lambda one: one[1].order))

    def validate(self) -> None:
        """Check every invariant."""
        ensure(not self.flag or not self.waiters, "an event that is set is waited for")
        ensure(in_order(self.waiters), "requests wait for an event out of order")
