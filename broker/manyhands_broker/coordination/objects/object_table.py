"""All objects, and the indexes by which an event finds the few that it concerns.

Every change of an object goes through `ObjectTable.change`. It sends the answers that the change gives,
keeps the indexes true, counts bytes, and notes what the write-ahead log must be told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from manyhands_broker.coordination.model import Member
from manyhands_broker.coordination.objects.deadlines import Deadlines
from manyhands_broker.coordination.objects.sync_records import (
    SharedObject,
    item_record,
    numbered,
    object_record,
    requests_record,
    waiter_record,
)
from manyhands_broker.coordination.records import RecordKind
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.coordination.kinds import Outcome
from manyhands_shared.coordination.rules.model import Answer, Answers, Op
from manyhands_shared.coordination.rules.queue import QueueRules
from manyhands_shared.protocol.messages.coordination import RecallLock, Response

#: What an object counts for among `Limits.coordination_bytes`, beside its items.
OBJECT_BYTES = 1_024
#: A wait that cannot end yet, because its barrier is led, is looked at again after these seconds.
_AGAIN = 0.05


class ObjectTable:
    """The objects of all programs.

    Attributes:
        objects: by key.
        of_program: by program, by key.
        owned: by member, the keys of the locks that it holds and the barriers that it leads.
        marked: by member, the queues whose items it was sent and has not confirmed, by request.
        heard: members whose numbers or answers have changed since the last `flush`.
    """

    def __init__(self, state: CoordinationState) -> None:
        self._state = state
        self.objects: dict[bytes, SharedObject] = {}
        self.of_program: dict[bytes, dict[bytes, SharedObject]] = {}
        self.owned: dict[bytes, dict[bytes, None]] = {}
        self.marked: dict[bytes, dict[int, bytes]] = {}
        self.heard: dict[bytes, Member] = {}
        self._changed: dict[bytes, None] = {}
        self._deadlines = Deadlines(state.timers, self._expire, self._waits_until)

    def of(self, member: Member, key: bytes) -> SharedObject | None:
        """Return an object of the member's program."""
        shared = self.objects.get(key)
        return None if shared is None or shared.program != member.program.id else shared

    def enter(self, shared: SharedObject) -> None:
        """Add an object, with all who wait and what is held in it."""
        self.objects[shared.key] = shared
        self.of_program.setdefault(shared.program, {})[shared.key] = shared
        self._state.used_bytes += OBJECT_BYTES + shared.rules.item_bytes
        self._own(shared, None)
        self._changed[shared.key] = None
        for op in shared.rules.waiting():
            self.note_wait(shared, op)
        if isinstance(shared.rules, QueueRules):
            for member, number in shared.rules.marked:
                self.marked.setdefault(member, {})[number] = shared.key

    def change(
        self,
        shared: SharedObject,
        step: Callable[..., Answers],
        *arguments: Any,
        untold: Op | None = None,
        **named: Any,
    ) -> None:
        """Change an object by a step of its rules. `untold` does not want its answer."""
        rules = shared.rules
        owner, nbytes = rules.owner, rules.item_bytes
        answers = step(*arguments, **named)
        if rules.changes:
            self._changed[shared.key] = None
            if rules.owner != owner:
                self._own(shared, owner)
            self._state.used_bytes += rules.item_bytes - nbytes
        for answer in answers:
            member = self._state.members.get(answer.op[0])
            if answer.op == untold or member is None or not member.living:
                continue
            member.waiting.pop(answer.op[1], None)
            if answer.bodies:
                self.marked.setdefault(member.id, {})[answer.op[1]] = shared.key
            self.respond(member, answer, rules.epoch)
        if rules.recall is not None:
            self._recall(shared, rules.recall)

    def _recall(self, shared: SharedObject, op: Op) -> None:
        """Have a delegated lock called back from its holder's process."""
        shared.rules.recall = None
        member = self._state.members.get(op[0])
        if member is not None:
            self._state.tell(member, RecallLock(member.id, shared.key, op[1]))

    def note_wait(self, shared: SharedObject, op: Op) -> None:
        """Note that a request waits, if it does."""
        waiter = shared.rules.find(op)
        if waiter is not None:
            self._state.members[op[0]].waiting[op[1]] = shared.key
            if waiter.deadline is not None:
                self._deadlines.add(waiter.deadline, shared.key, op)

    def respond(self, member: Member, answer: Answer, epoch: int = 0) -> None:
        """Answer a request, and keep the answer until the member is known to have it."""
        self._state.respond(member, self.keep_answer(member, answer, epoch))

    def keep_answer(self, member: Member, answer: Answer, epoch: int) -> Response:
        """Keep an answer, in place of an earlier one to the same request; return it."""
        number = answer.op[1]
        response = Response(
            member.id, number, answer.outcome, epoch, list(answer.arguments), list(answer.bodies)
        )
        member.answers[number] = response
        self.heard[member.id] = member
        return response

    def confirm(self, member: Member, number: int) -> None:
        """Let go of the item that came with an answer, if one did: the member has it."""
        key = self.marked.get(member.id, {}).get(number)
        if key is not None:
            self.unmark(member.id, number)
            shared = self.objects[key]
            assert isinstance(shared.rules, QueueRules)
            self.change(shared, shared.rules.confirm, [(member.id, number)])

    def unmark(self, member: bytes, number: int) -> None:
        """An item that was sent is confirmed, or taken back."""
        marked = self.marked.get(member)
        if marked is not None:
            marked.pop(number, None)
            if not marked:
                del self.marked[member]

    def discard(self, shared: SharedObject) -> None:
        """Let go of an object; what still waits for it is told that there is none."""
        rules, state = shared.rules, self._state
        del self.objects[shared.key]
        of_program = self.of_program[shared.program]
        del of_program[shared.key]
        if not of_program:
            del self.of_program[shared.program]
        self._changed.pop(shared.key, None)
        state.used_bytes -= OBJECT_BYTES + shared.rules.item_bytes
        self._disown(shared.rules.owner, shared.key)
        waiting = rules.waiting()
        state.write(RecordKind.OBJECT, shared.key, None)
        for op in {**waiting, **rules.changes.waiters}:
            state.write(RecordKind.WAITER, numbered(*op), None)
        if isinstance(rules, QueueRules):
            for number in {**rules.items, **rules.changes.items}:
                state.write(RecordKind.ITEM, numbered(shared.key, number), None)
            for member_id, request in rules.marked:
                self.unmark(member_id, request)
        for op in waiting:
            member = state.members.get(op[0])
            if member is not None and member.waiting.pop(op[1], None) is not None:
                self.respond(member, Answer(op, Outcome.NONE))

    def forget_member(self, member: Member) -> None:
        """Drop what there is of a member that has ended."""
        member.answers.clear()
        self.heard.pop(member.id, None)
        self._state.write(RecordKind.REQUESTS, member.id, None)

    def flush(self) -> None:
        """End a drain: write what has changed."""
        for key in self._changed:
            self._write(self.objects[key])
        self._changed.clear()
        for member in self.heard.values():
            record = requests_record(member, self.marked.get(member.id, {}))
            self._state.write(RecordKind.REQUESTS, member.id, record)
        self.heard.clear()

    def _write(self, shared: SharedObject) -> None:
        rules, state = shared.rules, self._state
        changes = rules.changes
        if changes.state:
            state.write(RecordKind.OBJECT, shared.key, object_record(shared))
            changes.state = False
        for op in changes.waiters:
            waiter = rules.find(op)
            record = None if waiter is None else waiter_record(shared.key, waiter, state.now)
            state.write(RecordKind.WAITER, numbered(*op), record)
        changes.waiters.clear()
        # Not `isinstance`, which takes ten times as long for an abstract class's.
        if type(rules) is QueueRules:
            for number in changes.items:
                key = numbered(shared.key, number)
                state.write(RecordKind.ITEM, key, item_record(rules, number))
            changes.items.clear()

    def _own(self, shared: SharedObject, before: bytes | None) -> None:
        """Note who holds an object now, after `before`."""
        owner = shared.rules.owner
        if owner == before:
            return
        self._disown(before, shared.key)
        if owner in self._state.members:
            self.owned.setdefault(owner, {})[shared.key] = None

    def _disown(self, owner: bytes | None, key: bytes) -> None:
        owned = None if owner is None else self.owned.get(owner)
        if owner is not None and owned is not None:
            owned.pop(key, None)
            if not owned:
                del self.owned[owner]

    def _waits_until(self, key: bytes, op: Op, when: float) -> bool:
        shared = self.objects.get(key)
        waiter = None if shared is None else shared.rules.find(op)
        return waiter is not None and waiter.deadline is not None and waiter.deadline <= when

    def _expire(self, key: bytes, op: Op) -> None:
        shared = self.objects[key]
        self.change(shared, shared.rules.expire, op)
        if self._waits_until(key, op, self._state.now):
            self._deadlines.add(self._state.now + _AGAIN, key, op)

    def validate(self) -> None:
        """Check every invariant.

        Raises:
            AssertionError: naming what does not add up.
        """
        used, members = 0, self._state.members
        for key, shared in self.objects.items():
            shared.rules.validate()
            assert self.of_program[shared.program][key] is shared, "an object is of no program"
            assert shared.program in self._state.programs, "an object outlives its program"
            used += OBJECT_BYTES + shared.rules.item_bytes
            for member_id, number in shared.rules.waiting():
                assert members[member_id].living, "the dead wait"
                assert members[member_id].waiting.get(number) == key, "a wait is in no index"
                assert number not in members[member_id].answers, "what was answered waits"
            owner = shared.rules.owner
            if owner in members and members[owner].living:
                assert key in self.owned[owner], "what a member holds is in no index"
        assert used == self._state.used_bytes, "the bytes of objects are wrong"
        for member_id, marked in self.marked.items():
            for number, key in marked.items():
                rules = self.objects[key].rules
                assert isinstance(rules, QueueRules), "an item is of no queue"
                assert (member_id, number) in rules.marked, "an item was handed over to no request"
        for member in members.values():
            for number, key in member.waiting.items():
                assert self.objects[key].rules.find((member.id, number)), "a wait ended untold"
