"""A stage for the rules of one object: members ask, wait, give up, die; every step is checked.

The stage does what the broker does: it remembers what was answered, undoes what its asker gave up, and
ends waits whose time is over. After each step the object is written out and read back.
"""

from __future__ import annotations

from typing import Any

import msgpack
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from manyhands_shared.coordination.kinds import OPERATIONS, Operation, Outcome, are_arguments
from manyhands_shared.coordination.rules.barrier import BarrierRules
from manyhands_shared.coordination.rules.creation import blank
from manyhands_shared.coordination.rules.lock import LockRules
from manyhands_shared.coordination.rules.model import Answer, Answers, Asked, Op, SyncObject, Waiter
from manyhands_shared.coordination.rules.queue import QueueRules

MEMBERS = tuple(bytes([letter]) * 16 for letter in b"ABC")


class Stage:
    """One object and all who use it."""

    def __init__(self, made: SyncObject) -> None:
        self.object = made
        self.now = 0.0
        self.numbers = dict.fromkeys(MEMBERS, 0)
        #: Every answer by request, and in order.
        self.answers: dict[Op, Answer] = {}
        self.order: list[Answer] = []

    def ask(self, member: bytes, operation: Operation, *arguments: Any, bodies: Any = ()) -> Op:
        """Ask for an operation; return the request."""
        assert operation in OPERATIONS[self.object.kind]
        assert are_arguments(operation, arguments)
        self.numbers[member] += 1
        op = member, self.numbers[member]
        self._step(self.object.request(Asked(op, operation, arguments, bodies), self.now))
        assert (op in self.answers) != (op in self.object.waiting()), "neither answered nor waiting"
        return op

    def outcome(self, op: Op) -> Outcome | None:
        """Return how a request ended; `None` while it waits."""
        answer = self.answers.get(op)
        return None if answer is None else answer.outcome

    def give_up(self, op: Op) -> None:
        """Withdraw a request, or undo what it was granted."""
        if op in self.answers:
            self._step(self.object.undo(self.answers[op]))
        else:
            self._step(self.object.withdraw(op))
            assert op not in self.object.waiting()

    def advance(self, seconds: float) -> None:
        """Let time pass, and end the waits whose time is over."""
        self.now += seconds
        for op, waiter in list(self.object.waiting().items()):
            still = self.object.waiting().get(op)
            if still is waiter and waiter.deadline is not None and waiter.deadline <= self.now:
                self._step(self.object.expire(op))

    def die(self, member: bytes) -> None:
        """Kill a member: its waits are withdrawn, its lock passes on, what it leads breaks."""
        for op in list(self.object.waiting()):
            if op[0] == member:
                self.give_up(op)
        match self.object:
            case LockRules(holder=(holder, _)) if holder == member:
                self._step(self.object.abandon())
            case BarrierRules(leader=(leader, number)) if leader == member:
                self.give_up((leader, number))
            case QueueRules(marked=marked):
                for op in [op for op in marked if op[0] == member]:
                    self.give_up(op)
        assert not any(op[0] == member for op in self.object.waiting())

    def confirm(self, op: Op) -> None:
        """Say that an item has arrived."""
        assert isinstance(self.object, QueueRules)
        self._step(self.object.confirm([op]))

    def _step(self, answers: Answers) -> None:
        for answer in answers:
            assert answer.op not in self.answers, "a request is answered twice"
            assert answer.op not in self.object.waiting(), "what was answered waits"
            self.answers[answer.op] = answer
            self.order.append(answer)
        self.object.validate()
        self._rewrite()

    def _rewrite(self) -> None:
        """Write the object out and go on with what was read back: nothing may depend on the rest."""
        was, waiting = self.object, self.object.waiting()
        made = blank(was.kind)
        if isinstance(was, QueueRules) and isinstance(made, QueueRules):
            for number, item in was.items.items():
                made.restore_item(number, _plain(was.item_state(number)), item.body)
        read = {op: _read(waiter) for op, waiter in reversed(waiting.items())}
        made.restore(_plain(was.state()), read)
        made.validate()
        assert made.state() == was.state()
        assert made.waiting() == waiting
        assert all(made.find(op) == waiter for op, waiter in waiting.items())
        self.object = made


class StageMachine(RuleBasedStateMachine):
    """What may happen to every kind of object: time goes by, members give up or die."""

    stage: Stage

    @rule(seconds=st.sampled_from((0.5, 1.0, 4.0)))
    def advance(self, seconds: float) -> None:
        self.stage.advance(seconds)

    @rule(member=st.sampled_from(MEMBERS))
    def die(self, member: bytes) -> None:
        self.stage.die(member)

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        known = [*self.stage.answers, *self.stage.object.waiting()]
        if known:
            self.stage.give_up(data.draw(st.sampled_from(known)))


def _read(waiter: Waiter) -> Waiter:
    detail = tuple(_plain(waiter.detail))
    return Waiter(waiter.order, Operation(waiter.operation), waiter.since, waiter.deadline, detail)


def _plain(value: Any) -> Any:
    return msgpack.unpackb(msgpack.packb(value))
