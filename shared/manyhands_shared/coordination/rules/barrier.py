"""A barrier: the last of `parties` that arrives leads, runs the action, and opens it for all.

While it is led, further arrivals belong to the next generation. A deadline, `BREAK`, and the death or
withdrawal of one that has arrived break it. All that are there get `BROKEN`, and so do all who arrive
until `RESET`.
"""

from __future__ import annotations

from enum import IntEnum
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


class Phase(IntEnum):
    """What a barrier is at."""

    FILLING = 0
    LEADING = 1
    BROKEN = 2


class BarrierRules(SyncObject):
    """State of a barrier.

    Attributes:
        parties: how many open it.
        phase: what it is at.
        generation: how often it was opened or emptied.
        leader: the request that was answered `LEAD`, while the barrier is led.
        arrived: the others of this generation, in order.
        early: arrivals of the next generation, while this one is led. `detail` is whether they have an
            action to run.
    """

    kind: ClassVar = Kind.BARRIER
    __slots__ = ("arrived", "early", "generation", "leader", "parties", "phase")

    def __init__(self, parties: int) -> None:
        super().__init__()
        self.parties = parties
        self.phase = Phase.FILLING
        self.generation = 0
        self.leader: Op | None = None
        self.arrived: dict[Op, Waiter] = {}
        self.early: dict[Op, Waiter] = {}

    @property
    def owner(self) -> bytes | None:
        """The member that leads it."""
        return None if self.leader is None else self.leader[0]

    def request(self, asked: Asked, now: float) -> Answers:
        """Do an operation; without an answer of its own, the request waits."""
        op, operation, arguments = asked.op, asked.operation, asked.arguments
        if operation is Operation.ARRIVE:
            seconds, has_action = arguments
            if self.phase is Phase.BROKEN:
                return [Answer(op, Outcome.BROKEN)]
            waiter = self.wait(op, Operation.ARRIVE, seconds, now, has_action)
            if self.phase is Phase.LEADING:
                self.early[op] = waiter
                return []
            return self._arrive(op, waiter)
        if operation is Operation.LOOK:
            there = len(self.arrived) if self.phase is Phase.FILLING else 0
            broken = self.phase is Phase.BROKEN
            return [Answer(op, Outcome.OK, (self.parties, there, broken))]
        answers = [Answer(op, Outcome.OK)]
        if operation is Operation.OPEN:
            # A barrier that broke meanwhile is not opened any more.
            led = self.leader is not None and arguments[0] == self.generation
            return answers + (self._open() if led else [])
        if operation is Operation.BREAK:
            return answers + self._break()
        return answers + self._reset()

    def _arrive(self, op: Op, waiter: Waiter) -> Answers:
        self.changes.state = True
        if len(self.arrived) + 1 < self.parties:
            self.arrived[op] = waiter
            self.changes.waiters[op] = None
            return []
        self.changes.waiters[op] = None
        self.phase, self.leader = Phase.LEADING, op
        if waiter.detail[0]:
            return [Answer(op, Outcome.LEAD, (len(self.arrived), self.generation))]
        return [Answer(op, Outcome.OK, (len(self.arrived),)), *self._open()]

    def _open(self) -> Answers:
        answers = [
            Answer(op, Outcome.OK, (index,)) for index, op in enumerate(self._take_arrived())
        ]
        self.phase, self.leader = Phase.FILLING, None
        self.generation += 1
        return answers + self._take_early()

    def _take_arrived(self) -> dict[Op, Waiter]:
        taken, self.arrived = self.arrived, {}
        self.changes.waiters.update(dict.fromkeys(taken))
        self.changes.state = True
        return taken

    def _take_early(self) -> Answers:
        """Let those arrive that came while the barrier was led."""
        answers: Answers = []
        early, self.early = self.early, {}
        for op, waiter in early.items():
            if self.phase is Phase.LEADING:
                self.early[op] = waiter
            else:
                answers += self._arrive(op, waiter)
        return answers

    def _break(self) -> Answers:
        self.phase, self.leader = Phase.BROKEN, None
        early, self.early = self.early, {}
        self.changes.waiters.update(dict.fromkeys(early))
        there = [*self._take_arrived(), *early]
        return [Answer(op, Outcome.BROKEN) for op in there]

    def _reset(self) -> Answers:
        # To reset a barrier that is led is to come behind its opening: there is nothing to empty.
        if self.phase is Phase.LEADING:
            return []
        answers = [Answer(op, Outcome.BROKEN) for op in self._take_arrived()]
        self.phase = Phase.FILLING
        self.generation += 1
        return answers

    def waiting(self) -> dict[Op, Waiter]:
        """Return all that have arrived and were not answered."""
        return self.arrived | self.early

    def find(self, op: Op) -> Waiter | None:
        """Return a request that has arrived."""
        return self.arrived.get(op) or self.early.get(op)

    def withdraw(self, op: Op) -> Answers:
        """Break the barrier: one of those that it counted on is gone."""
        if op not in self.arrived and op not in self.early:
            return []
        return [answer for answer in self._break() if answer.op != op]

    def undo(self, answer: Answer) -> Answers:
        """Break the barrier, if its leader is gone."""
        return self._break() if self.leader == answer.op else []

    def expire(self, op: Op) -> Answers:
        """Break the barrier, unless it is about to open."""
        if op not in self.arrived and op not in self.early:
            return []
        if self.phase is Phase.LEADING:
            return []
        return self._break()

    def state(self) -> list[Any]:
        """Return all but waiting requests."""
        leader = None if self.leader is None else list(self.leader)
        return [self.next_order, self.parties, int(self.phase), self.generation, leader]

    def restore(self, state: Any, waiting: dict[Op, Waiter]) -> None:
        """Become what was written."""
        self.next_order, self.parties, phase, self.generation, leader = state
        self.phase = Phase(phase)
        self.leader = None if leader is None else (leader[0], leader[1])
        there = sorted(waiting.items(), key=lambda one: one[1].order)
        # A barrier that is led has all but its leader; who came later is early.
        first = self.parties - 1 if self.phase is Phase.LEADING else len(there)
        self.arrived, self.early = dict(there[:first]), dict(there[first:])

    def validate(self) -> None:
        """Check every invariant."""
        ensure(len(self.arrived) < self.parties, "a barrier that is full did not open")
        ensure((self.leader is not None) == (self.phase is Phase.LEADING), "a leader leads nothing")
        if self.phase is Phase.LEADING:
            ensure(len(self.arrived) == self.parties - 1, "a barrier is led that is not full")
        else:
            ensure(not self.early, "an arrival is early, but nothing is led")
        broken = self.phase is Phase.BROKEN
        ensure(not broken or not self.arrived, "a broken barrier is waited at")
        ensure(in_order(self.arrived) and in_order(self.early), "arrivals are out of order")
