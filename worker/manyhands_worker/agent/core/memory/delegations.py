"""Locks that are delegated to members of this host: what is in their words, how they are called back.

A member with a delegated lock takes and releases it by itself. In the lock's *words*, memory that the
agent maps too, it stores which thread has it, and looks whether the lock was called back. The agent
stores that, and looks who has it. A fence lies between both, so at least one of the two sees the other.

A lock that no thread has the agent gives back, whatever the member does just then. One that a member
has it gives back itself, when it releases it. Before the broker is told, all that the member said and
wrote before is read (`effects.ReadOut`): it takes effect before the lock is another's.

A lock that processes fight for is delegated for a slice of time. It is called back when that is over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from manyhands_shared.coordination.kinds import Operation, Outcome
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.memory.segment import HostMemory, Source
from manyhands_worker.agent.core.model import Member
from manyhands_worker.agent.core.tables import Tables

#: Bytes of the two words of a slot.
SLOT_BYTES = 16
#: What the bytes of a member's words may be.
MAX_BYTES = 1 << 20
#: They give back the lock that a request has, whose number is their first argument.
_RETURNS = frozenset({Operation.SLEEP, Operation.RETURN})


@dataclass(slots=True)
class _Lock:
    """A delegated lock: the request that has it, its words, and what its slice of time is."""

    number: int
    slot: int
    #: It is not called back before.
    until: float
    #: What calls it back then; None while the broker does not want it.
    recall: c.RecallLock | None = None


@dataclass(slots=True)
class _Delegate:
    """A member that has words, and the locks that are delegated to it, by key."""

    memory: HostMemory
    words: memoryview
    locks: dict[bytes, _Lock] = field(default_factory=dict)

    def has(self, key: bytes, number: object) -> _Lock | None:
        """Return a lock that a request has."""
        found = self.locks.get(key)
        return found if found is not None and found.number == number else None


class Delegations:
    """All of them.

    Args:
        tables: of the agent.
        out: effects, in order.
        send: sends to the broker if the link is ready.
        source: of the members' words, and of the fence.
    """

    def __init__(
        self,
        tables: Tables,
        out: list[effects.Effect],
        send: Callable[[m.Message], None],
        source: Source,
    ) -> None:
        self._tables = tables
        self._out = out
        self._send = send
        self._source = source
        self._of: dict[bytes, _Delegate] = {}
        #: Recalls of locks whose requests are being answered a second time.
        self._early: dict[tuple[bytes, int], c.RecallLock] = {}
        #: Locks that are called back when their slices are over, by member and key.
        self._in_slices: dict[tuple[bytes, bytes], _Lock] = {}
        tables.return_locks = self._member_ended

    # What members say

    def adopt(self, member: Member, message: c.LockWords, descriptors: list[int]) -> bool:
        """Take a member's words; false if the message makes no sense."""
        size = message.size
        if len(descriptors) != 1 or size % SLOT_BYTES or not 0 < size <= MAX_BYTES:
            return False
        try:
            self._source.fence()
        except OSError:
            # Without words no lock is delegated.
            return False
        try:
            memory = self._source.adopt(descriptors[0], size)
        except (OSError, ValueError):
            # The source has closed the descriptor.
            return True
        self._drop(member.id)
        self._of[member.id] = _Delegate(memory, memory.memory.cast("Q"))
        return True

    def asked(self, member: Member, request: c.Request) -> c.Request:
        """Take note of a request that may begin or end a delegation; return what to send."""
        found = self._of.get(member.id)
        if request.operation == Operation.DELEGATE:
            if found is None or not _is_slot(request.arguments, found):
                return _without_slot(request)
        elif found is not None and _ends(request, found):
            self._end(member.id, found, request.key)
        return request

    def withdrawn(self, member: Member, message: c.Withdraw) -> None:
        """Forget what was delegated with a request that is withdrawn."""
        found = self._of.get(member.id)
        self._early.pop((member.id, message.number), None)
        if found is not None and found.has(message.key, message.number) is not None:
            self._end(member.id, found, message.key)

    # What the broker says

    def answered(self, request: m.Message | None, response: c.Response) -> None:
        """Take note of a lock that the broker has delegated."""
        op = response.member, response.number
        early = self._early.pop(op, None) if self._early else None
        if (
            isinstance(request, c.Request)
            and request.operation == Operation.DELEGATE
            and response.outcome == Outcome.OK
            and len(response.arguments) > 1
        ):
            found = self._of.get(request.member)
            if found is not None:
                until = self._tables.now + response.arguments[1]
                self._in_slices.pop((request.member, request.key), None)
                found.locks[request.key] = _Lock(request.number, request.arguments[3], until)
            if early is not None:
                self.recall(early)

    def recall(self, message: c.RecallLock) -> None:
        """Call a lock back from a member."""
        member = self._tables.members.get(message.member)
        if member is None:
            return
        found = self._of.get(message.member)
        lock = None if found is None else found.has(message.key, message.number)
        if lock is None and self._tables.repeats.asked(member.id, message.number):
            # The member does not know yet that it has the lock.
            self._early[member.id, message.number] = message
            return
        thread = 1
        if found is not None and lock is not None:
            if self._tables.now < lock.until:
                lock.recall = message
                self._in_slices[message.member, message.key] = lock
                return
            slot = lock.slot
            found.words[2 * slot + 1] = 1
            self._source.fence()
            thread = found.words[2 * slot]
            # What was written under the lock was stored before its word.
            self._source.fence()
        read = events.ReadAll(message.member, message.key, message.number, thread)
        self._out.append(effects.ReadOut(member.id, member.channel, read))

    def read(self, event: events.ReadAll) -> None:
        """All that the member had said is known: tell the broker whether it has the lock."""
        member = self._tables.members.get(event.member)
        if member is None or member.phase == c.ENDED:
            return
        found = self._of.get(event.member)
        held, thread = True, 0
        if found is not None and found.has(event.key, event.number) is not None:
            # It is still delegated. Else what the member has said itself decides.
            self._end(member.id, found, event.key)
            held, thread = event.thread != 0, event.thread
        self._say(member, event.key, event.number, held, thread)

    # Slices of time

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do."""
        return min((lock.until for lock in self._in_slices.values()), default=None)

    def tick(self) -> None:
        """Call back the locks whose slices are over."""
        if self._in_slices:
            now = self._tables.now
            over = [of for of, lock in self._in_slices.items() if lock.until <= now]
            for of in over:
                recall = self._in_slices.pop(of).recall
                if recall is not None:
                    self.recall(recall)

    def _end(self, name: bytes, found: _Delegate, key: bytes) -> None:
        """Forget that a lock is delegated, if it is."""
        found.locks.pop(key, None)
        if self._in_slices:
            self._in_slices.pop((name, key), None)

    def validate(self) -> None:
        """Check the invariants. Raises AssertionError."""
        for name, found in self._of.items():
            assert name in self._tables.members, "a member that is gone has words"
            for lock in found.locks.values():
                assert 0 < lock.slot < len(found.words) // 2, "a lock has no words"
        for (name, key), lock in self._in_slices.items():
            assert self._of[name].locks[key] is lock, "a lock is called back that is not delegated"
            assert lock.recall is not None, "a lock is called back that the broker does not want"

    def _member_ended(self, member: Member) -> None:
        """Give back what a member did not have when it ended; the rest is the broker's to judge."""
        self._early = {op: one for op, one in self._early.items() if op[0] != member.id}
        found = self._of.get(member.id)
        if found is not None:
            for key, lock in found.locks.items():
                thread = found.words[2 * lock.slot]
                self._say(member, key, lock.number, thread != 0, thread)
            self._drop(member.id)

    def _say(self, member: Member, key: bytes, number: int, held: bool, thread: int) -> None:
        self._tables.leaving(member.program)
        returned = c.LockReturned(member.id, key, number, held, thread)
        self._tables.repeats.tell(returned)
        self._send(returned)

    def _drop(self, name: bytes) -> None:
        found = self._of.pop(name, None)
        if found is not None:
            for key in found.locks:
                self._in_slices.pop((name, key), None)
            found.words.release()
            found.memory.close()


def _ends(request: c.Request, found: _Delegate) -> bool:
    """Whether a request ends the delegation that there is, and not an earlier one of the same lock.

    Another thread of the member may have had the lock delegated anew before the return of the last one.
    """
    if request.operation in _RETURNS:
        arguments = request.arguments
        of = arguments[0] if type(arguments) is list and arguments else None
        return found.has(request.key, of) is not None
    return request.operation == Operation.DISCARD


def _is_slot(arguments: object, found: _Delegate) -> bool:
    return (
        type(arguments) is list
        and len(arguments) == 4
        and type(arguments[3]) is int
        and 0 < arguments[3] < len(found.words) // 2
    )


def _without_slot(asked: c.Request) -> c.Request:
    """Return a request that has no slot. What is malformed, the broker refuses."""
    arguments = asked.arguments
    if type(arguments) is list:
        arguments = [*arguments[:3], 0]
    return c.Request(
        asked.member,
        asked.number,
        asked.settled,
        asked.key,
        asked.operation,
        asked.quiet,
        arguments,
        asked.bodies,
    )
