"""Who waits for whom, for people: waits in words, and dead-locks among locks, told after ten seconds.

A thread waits for one lock at most, and a lock has one holder. So from each thread that waits leads one
way, from lock to holder to the lock that this one waits for. A way that comes back is a dead-lock. It is
told on the root's standard error, once, and so is a wait for a holder that has ended or is not heard
from. Nothing is broken up: the locks are the program's.
"""

from __future__ import annotations

from typing import Any

from manyhands_broker.coordination.model import Member
from manyhands_broker.coordination.objects.object_table import ObjectTable
from manyhands_broker.coordination.objects.sync_records import SharedObject
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.coordination.kinds import Kind, Operation
from manyhands_shared.coordination.rules.lock import LockRules
from manyhands_shared.coordination.rules.model import Op, Waiter

#: A wait that takes this time is looked at.
LONG_SECONDS = 10.0
#: Members that a sentence names.
_NAMED = 8

#: A member and one of its threads.
_Thread = tuple[bytes, int]
#: The lock that each thread waits for, and with which request.
WaitingThreads = dict[_Thread, tuple[SharedObject, Op, Waiter]]

_AWAITED = {
    Operation.WAIT: "event",
    Operation.SLEEP: "a notification of a condition of lock",
    Operation.ARRIVE: "the others at barrier",
    Operation.PUT: "room in queue",
    Operation.GET: "an item of queue",
    Operation.JOIN: "the end of all work from queue",
}


class Deadlocks:
    """Looks at waits for locks as long as there are any."""

    def __init__(self, state: CoordinationState, table: ObjectTable) -> None:
        self._state = state
        self._table = table
        #: Locks that were waited for at the last look, or are since.
        self._awaited: dict[bytes, None] = {}
        self._armed = False
        #: What was told, until it is over.
        self._told: set[tuple[Op, ...]] = set()

    def note_wait(self, shared: SharedObject) -> None:
        """A request may wait for a lock from now on."""
        # Not `isinstance`, which takes ten times as long for an abstract class's.
        if type(shared.rules) is LockRules and shared.rules.queue:
            self._awaited[shared.key] = None
            if not self._armed:
                self._armed = True
                self._state.timers.at(self._state.now + LONG_SECONDS, self._look)

    def waits(self, member: Member, now: float, threads: WaitingThreads) -> list[dict[str, Any]]:
        """Return what a member waits for; `threads` is what `threads_that_wait` has returned."""
        return [
            self._describe(self._table.objects[key], (member.id, number), now, threads)
            for number, key in member.waiting.items()
        ]

    def _describe(
        self, shared: SharedObject, op: Op, now: float, threads: WaitingThreads
    ) -> dict[str, Any]:
        rules = shared.rules
        waiter = rules.find(op)
        assert waiter is not None
        kind, held_by = _AWAITED.get(waiter.operation, rules.kind.name.lower()), ""
        if waiter.operation is Operation.WAIT and rules.kind is Kind.QUEUE:
            kind = _AWAITED[Operation.GET]
        if isinstance(rules, LockRules) and not rules.asleep(op):
            kind, held_by = "lock", self._way(shared, threads)
        return {
            "key": shared.key.hex(),
            "kind": kind,
            "seconds": max(0.0, now - waiter.since),
            "made": shared.made,
            "held_by": held_by,
        }

    def _way(self, shared: SharedObject, waiting: WaitingThreads) -> str:
        """Return who holds a lock, and what that waits for in turn."""
        said, seen = "", {shared.key}
        while True:
            assert isinstance(shared.rules, LockRules)
            holder = shared.rules.holder
            if holder is None:
                return said
            said += self._name(holder[0])
            following = waiting.get((holder[0], shared.rules.thread))
            if following is None:
                return said
            shared = following[0]
            if shared.key in seen:
                return f"{said}: they wait for each other"
            if len(seen) == _NAMED:
                return f"{said}, which waits for a lock in turn, and so on"
            seen.add(shared.key)
            said += f", which waits for lock {_title(shared)}, held by "

    def threads_that_wait(self) -> WaitingThreads:
        """Return the lock that each thread waits for."""
        found: WaitingThreads = {}
        for key in list(self._awaited):
            shared = self._table.objects.get(key)
            if shared is None or not isinstance(shared.rules, LockRules) or not shared.rules.queue:
                del self._awaited[key]
            else:
                for op, waiter in shared.rules.queue.items():
                    found[op[0], waiter.detail[0]] = shared, op, waiter
        return found

    def _look(self, now: float) -> None:
        waiting = self.threads_that_wait()
        self._armed = bool(self._awaited)
        if self._armed:
            self._state.timers.at(now + LONG_SECONDS, self._look)
        told: set[tuple[Op, ...]] = set()
        #: Threads that lead into no circle that was not found already.
        done: set[_Thread] = set()
        for thread, (shared, op, waiter) in waiting.items():
            if now - waiter.since < LONG_SECONDS:
                continue
            circle = _circle(thread, waiting, done)
            if circle:
                ops = tuple(sorted(waiting[one][1] for one in circle))
                if ops not in self._told:
                    self._tell_circle(circle, waiting, now)
                told.add(ops)
            elif reason := self._lost_holder(shared):
                assert isinstance(shared.rules, LockRules)
                assert shared.rules.holder is not None
                key = (shared.rules.holder,)
                if key not in self._told and key not in told:
                    self._tell(
                        op, f"waits {now - waiter.since:.0f} s for lock {_title(shared)}; {reason}"
                    )
                told.add(key)
        self._told = told

    def _tell_circle(
        self,
        circle: list[_Thread],
        waiting: WaitingThreads,
        now: float,
    ) -> None:
        shared, op, waiter = waiting[circle[0]]
        text = f"waits {now - waiter.since:.0f} s for lock {_title(shared)}"
        if len(circle) == 1:
            self._tell(op, f"{text}, which it holds itself")
            return
        for thread in circle[1:_NAMED]:
            text += f", held by {self._name(thread[0])}, which waits for lock "
            text += _title(waiting[thread][0])
        if len(circle) > _NAMED:
            text += f", and so on over {len(circle)} locks"
        self._tell(op, f"{text}, held by the first: they wait for each other")

    def _lost_holder(self, shared: SharedObject) -> str:
        """Return why the holder of a lock may never release it, or nothing."""
        assert isinstance(shared.rules, LockRules)
        if shared.rules.holder is None:
            return ""
        holder = self._state.members.get(shared.rules.holder[0])
        if holder is None or not holder.living:
            return "its holder has ended without releasing it"
        if holder.agent is None or holder.agent.peer is None:
            return f"its holder {self._name(holder.id)} is on a host that is not heard from"
        return ""

    def _tell(self, op: Op, text: str) -> None:
        member = self._state.members[op[0]]
        self._state.note(member.program, f"manyhands: {self._name(op[0])} {text}")

    def _name(self, member_id: bytes) -> str:
        member = self._state.members.get(member_id)
        if member is None:
            return "a process that has ended"
        where = f"node {member.node}, pid {member.pid}" if member.node else f"pid {member.pid}"
        return f"{member.name or 'a process'} ({where})"


def _circle(first: _Thread, waiting: WaitingThreads, done: set[_Thread]) -> list[_Thread]:
    """Return the threads that wait for each other on the way from one thread, if it comes back."""
    way: dict[_Thread, int] = {}
    thread = first
    while thread in waiting and thread not in done:
        if thread in way:
            done.update(way)
            return list(way)[way[thread] :]
        way[thread] = len(way)
        rules = waiting[thread][0].rules
        assert isinstance(rules, LockRules)
        if rules.holder is None:
            break
        thread = rules.holder[0], rules.thread
    done.update(way)
    return []


def _title(shared: SharedObject) -> str:
    made = f", made at {shared.made}" if shared.made else ""
    return f"{shared.key.hex()[:8]}{made}"
