"""Objects that members share: locks, semaphores, events, conditions, barriers, queues.

The rules (`manyhands_shared.coordination.rules`) say what an operation does to one object. Here is what
surrounds them: whose object it is, what is repeated, given up, or lost with a member that dies. And what
is read back from the write-ahead log.

**Repetition.** A member's numbers rise. An agent whose link was lost asks again what has no answer, and
repeats what may not have arrived. A number that is not above the last one is a repetition: its answer is
sent again, its wait goes on, or it is dropped. Answers are kept in the order in which they were sent,
until the member says (`settled`) that it has a later one.

**Giving up.** `Withdraw` takes a request out, or undoes what it was granted meanwhile.

**Death.** What a dead member waits for is withdrawn. Its locks are passed on if it was killed or lost
with its host. One that ends by itself leaves them locked, as with the standard library, and its root is
told. Items that it was sent, and that its agent did not confirm, are the first of their queues again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from manyhands_broker.coordination.model import Member, Program
from manyhands_broker.coordination.objects.deadlocks import Deadlocks
from manyhands_broker.coordination.objects.object_table import OBJECT_BYTES, ObjectTable
from manyhands_broker.coordination.objects.sync_records import (
    Restoration,
    SharedObject,
    restored_answer,
)
from manyhands_broker.coordination.records import RecordKind
from manyhands_broker.coordination.shared_memory.memory import Memory
from manyhands_broker.coordination.shared_memory.names import MemoryNames
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.coordination.kinds import (
    NAMES,
    OPERATIONS,
    Operation,
    Outcome,
    are_arguments,
)
from manyhands_shared.coordination.rules.barrier import BarrierRules
from manyhands_shared.coordination.rules.creation import create
from manyhands_shared.coordination.rules.lock import LockRules
from manyhands_shared.coordination.rules.model import Answer, Asked, Op
from manyhands_shared.coordination.rules.queue import QueueRules
from manyhands_shared.payloads.payload import Payload, total
from manyhands_shared.protocol.messages.coordination import (
    ItemsTaken,
    LockReturned,
    Request,
    Response,
    Withdraw,
)

#: Requests of one member that wait, and answers that it has not said it has: more than it has threads.
#: All these answers are written with each drain in which one of them changes.
MAX_UNSETTLED = 8_192
_KNOWN = frozenset(map(int, Operation))

#: What each kind can be asked, by number: an enumeration takes its time to find a member.
_OPERATIONS = {
    kind: {int(operation): operation for operation in operations}
    for kind, operations in OPERATIONS.items()
}


class SyncObjects:
    """What requests do. It answers by `state.respond`, and waits by `state.timers`."""

    def __init__(self, state: CoordinationState, memory: Memory) -> None:
        self._state = state
        self._names = MemoryNames(memory)
        self._table = ObjectTable(state)
        self._deadlocks = Deadlocks(state, self._table)
        self._restoration: Restoration | None = None
        self.operations: Counter[int] = Counter()
        #: Sends a process a signal, for a member that asks for that.
        self.signal: Callable[[Member, bytes, int], None] = lambda _member, _target, _number: None

    def __len__(self) -> int:
        return len(self._table.objects)

    # What members say

    def request(self, member: Member, message: Request, now: float) -> None:
        """Take a request of a living member, new or repeated."""
        self._settle(member, message.settled)
        number = message.number
        if number <= member.last_number:
            self._repeat(member, number)
            return
        member.last_number = number
        self._table.heard[member.id] = member
        if len(member.answers) + len(member.waiting) >= MAX_UNSETTLED:
            self._refuse(member, message)
        else:
            self._do(member, message, now)

    def _do(self, member: Member, message: Request, now: float) -> None:
        """Do what a new request asks."""
        number = message.number
        if message.operation in _KNOWN:
            self.operations[message.operation] += 1
        op, shared = (member.id, number), self._table.of(member, message.key)
        outcome = Outcome.OK
        if message.operation == Operation.CREATE:
            outcome = self._create(member, message)
        elif message.operation == Operation.DISCARD:
            if shared is not None:
                self._table.discard(shared)
        elif message.operation == Operation.SYNC:
            pass
        elif message.operation == Operation.SIGNAL:
            outcome = self._signal(member, message)
        elif message.operation in NAMES:
            answer = self._of_name(op, message)
            if not message.quiet:
                self._table.respond(member, answer)
            return
        elif shared is None:
            outcome = Outcome.NONE
        elif (operation := _operation(shared, message)) is None:
            outcome = Outcome.MALFORMED
        elif self._is_too_much(message):
            outcome = Outcome.NO_ROOM
        else:
            asked = Asked(op, operation, message.arguments, tuple(message.bodies))
            untold = op if message.quiet else None
            self._table.change(shared, shared.rules.request, asked, now, untold=untold)
            self._table.note_wait(shared, op)
            self._deadlocks.note_wait(shared)
            return
        if not message.quiet:
            self._table.respond(member, Answer(op, outcome))

    def withdraw(self, member: Member, message: Withdraw, now: float) -> None:
        """Let a request wait no more, and undo what it was granted."""
        del now
        table, op = self._table, (member.id, message.number)
        key = member.waiting.pop(message.number, None)
        if key is not None:
            shared = table.objects[key]
            table.change(shared, shared.rules.withdraw, op)
            return
        found = table.of(member, message.key)
        response = member.answers.pop(message.number, None)
        if response is not None:
            table.heard[member.id] = member
        if found is None or (response is None and not isinstance(found.rules, LockRules)):
            # Without its answer nothing tells what it was; only a lock names its holder.
            return
        given = Answer(op, Outcome.OK)
        if response is not None:
            given = Answer(op, Outcome(response.outcome), tuple(response.arguments))
        table.unmark(*op)
        table.change(found, found.rules.undo, given)

    def items_taken(self, member: Member, message: ItemsTaken, now: float) -> None:
        """Let go of items that a member has."""
        del now
        for number in message.numbers:
            self._table.confirm(member, number)
            if member.answers.pop(number, None) is not None:
                self._table.heard[member.id] = member

    def lock_returned(self, member: Member, message: LockReturned, now: float) -> None:
        """End the delegation of a lock."""
        table, number = self._table, message.number
        shared = table.of(member, message.key)
        if shared is None or not isinstance(shared.rules, LockRules):
            return
        response = member.answers.get(number)
        if response is not None and shared.rules.holder == (member.id, number):
            # It may be sent again, and must not delegate the lock then.
            table.keep_answer(
                member,
                Answer(
                    (member.id, number), Outcome(response.outcome), tuple(response.arguments[:1])
                ),
                response.epoch,
            )
        op = member.id, number
        table.change(shared, shared.rules.returned, op, message.thread, now, held=message.held)

    # What happens to members and programs

    def linked(self, member: Member) -> None:
        """The member's agent has a link: call back what may not have been heard over the last one."""
        for key in list(self._table.owned.get(member.id, ())):
            shared = self._table.objects[key]
            if isinstance(shared.rules, LockRules):
                self._table.change(shared, shared.rules.call_again)

    def member_ended(self, member: Member, now: float) -> None:
        """Pass on what a member held; `by_signal` and `host_lost` say how it ended."""
        del now
        table = self._table
        waiting = list(member.waiting.items())
        member.waiting.clear()
        for number, key in waiting:
            shared = table.objects[key]
            table.change(shared, shared.rules.withdraw, (member.id, number))
        self._take_back_items(member)
        for key in list(table.owned.pop(member.id, {})):
            self._lose_owner(member, table.objects[key])
        table.forget_member(member)

    def _take_back_items(self, member: Member) -> None:
        """Put the items back that a member was sent and has not confirmed."""
        given: dict[bytes, list[Op]] = {}
        for number, key in self._table.marked.pop(member.id, {}).items():
            given.setdefault(key, []).append((member.id, number))
        for key, ops in given.items():
            shared = self._table.objects[key]
            assert isinstance(shared.rules, QueueRules)
            self._table.change(shared, shared.rules.take_back, ops)

    def program_ended(self, program: Program) -> None:
        """Drop everything of a program."""
        for member in program.members.values():
            member.waiting.clear()
            self._table.owned.pop(member.id, None)
            self._table.marked.pop(member.id, None)
            self._table.forget_member(member)
        for shared in list(self._table.of_program.get(program.id, {}).values()):
            self._table.discard(shared)

    def _lose_owner(self, member: Member, shared: SharedObject) -> None:
        """Pass on what a member held when it ended."""
        rules = shared.rules
        if isinstance(rules, BarrierRules) and rules.leader is not None:
            self._table.change(shared, rules.undo, Answer(rules.leader, Outcome.LEAD))
        elif isinstance(rules, LockRules) and (member.by_signal or member.host_lost):
            self._state.counters["locks_abandoned"] += 1
            self._table.change(shared, rules.abandon)
        else:
            if isinstance(rules, LockRules):
                self._table.change(shared, rules.undelegate)
            made = f", made at {shared.made}" if shared.made else ""
            self._state.note(
                member.program,
                f"{member.name or 'a process'} ended and holds a lock{made}; "
                "it stays locked until another process releases it",
            )

    # The log

    def flush(self) -> None:
        """End a drain: write what has changed, by `state.write`."""
        self._table.flush()

    def restore(self, kind: RecordKind, key: bytes, payload: Any) -> None:
        """Take a record back that this wrote. Programs and members come first."""
        restoration = self._restoration = self._restoration or Restoration()
        if kind is RecordKind.OBJECT:
            restoration.add_object(key, payload)
        elif kind is RecordKind.ITEM:
            restoration.add_item(key, payload)
        elif kind is RecordKind.WAITER:
            restoration.add_waiter(key, payload)
        elif kind is RecordKind.REQUESTS:
            restoration.requests[key] = payload

    def restored(self, now: float) -> None:
        """All records are back: make the objects, and set what timers there were."""
        restoration, self._restoration = self._restoration or Restoration(), None
        for shared in restoration.objects(now):
            self._table.enter(shared)
            self._deadlocks.note_wait(shared)
        for member_id, (last, answers) in restoration.requests.items():
            member = self._state.members.get(member_id)
            if member is not None:
                member.last_number = last
                for row in answers:
                    bodies = self._bodies(member, row)
                    member.answers[row[0]] = restored_answer(member, row, bodies)

    def _bodies(self, member: Member, row: Any) -> list[Payload]:
        """Return what came with an answer: the item that it handed over."""
        shared = self._table.objects.get(row[4])
        if shared is None or not isinstance(shared.rules, QueueRules):
            return []
        # Another queue may have this key by now: the item is gone with the one that had it before.
        number = shared.rules.marked.get((member.id, row[0]))
        return [] if number is None else [shared.rules.items[number].body]

    # For people

    def waits(self, members: Iterable[Member], now: float) -> list[list[dict[str, Any]]]:
        """Return what each waits for, for people: `key`, `kind`, `seconds`, `made`, `held_by`."""
        # Once for all of them: it looks at every thread that waits for a lock.
        threads = self._deadlocks.threads_that_wait()
        return [self._deadlocks.waits(member, now, threads) for member in members]

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: naming what does not add up.
        """
        self._table.validate()

    # Requests

    def _settle(self, member: Member, settled: int) -> None:
        """Forget the answers up to the one that a member says it has."""
        if settled not in member.answers:
            return
        for number in list(member.answers):
            self._table.confirm(member, number)
            del member.answers[number]
            if number == settled:
                break
        self._table.heard[member.id] = member

    def _refuse(self, member: Member, message: Request) -> None:
        """Do nothing of a request; the answer that says so is not kept."""
        self._state.counters["refused_requests"] += 1
        if not message.quiet:
            refusal = Response(member.id, message.number, Outcome.NO_ROOM, 0, [], [])
            self._state.respond(member, refusal)

    def _repeat(self, member: Member, number: int) -> None:
        response = member.answers.pop(number, None)
        if response is not None:
            # The order of the answers is that in which they were sent last.
            member.answers[number] = response
            self._state.respond(member, response)

    def _create(self, member: Member, message: Request) -> Outcome:
        table, limits, program = self._table, self._state.limits, member.program.id
        there = table.objects.get(message.key)
        if there is not None:
            return Outcome.OK if there.program == program else Outcome.NONE
        if not are_arguments(Operation.CREATE, message.arguments):
            return Outcome.MALFORMED
        kind, facts, made = message.arguments
        rules = create(kind, facts)
        if rules is None:
            return Outcome.MALFORMED
        full = len(table.of_program.get(program, ())) >= limits.program_objects
        if full or self._state.free_bytes < OBJECT_BYTES:
            return Outcome.NO_ROOM
        rules.changes.state = True
        table.enter(SharedObject(message.key, program, made, rules))
        return Outcome.OK

    def _signal(self, member: Member, message: Request) -> Outcome:
        if not are_arguments(Operation.SIGNAL, message.arguments):
            return Outcome.MALFORMED
        self.signal(member, message.key, message.arguments[0])
        return Outcome.OK

    def _of_name(self, op: Op, message: Request) -> Answer:
        """Do what is asked of a name of shared memory."""
        operation = Operation(message.operation)
        if not are_arguments(operation, message.arguments):
            return Answer(op, Outcome.MALFORMED)
        program, name = self._state.members[op[0]].program.id, message.arguments[0]
        if operation is Operation.NAME:
            done = self._names.name(program, name, message.arguments[1])
        elif operation is Operation.UNNAME:
            done = self._names.unname(program, name)
        else:
            segment = self._names.find(program, name)
            if segment is not None:
                return Answer(op, Outcome.OK, (segment.key, segment.size))
            done = False
        return Answer(op, Outcome.OK if done else Outcome.NO)

    def _is_too_much(self, message: Request) -> bool:
        """Whether there is no room for what is put. What is not waited for is bounded by its sender."""
        if message.quiet or message.operation != Operation.PUT:
            return False
        return total(message.bodies) > self._state.free_bytes


def _operation(shared: SharedObject, message: Request) -> Operation | None:
    """Return what is asked, or `None` if the object's kind has no such operation with such arguments."""
    operation = _OPERATIONS[shared.rules.kind].get(message.operation)
    if operation is None or not are_arguments(operation, message.arguments):
        return None
    return operation
