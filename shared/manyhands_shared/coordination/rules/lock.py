"""A lock, and the conditions that sleep on it.

A condition has no object of its own. `SLEEP` releases the lock and falls asleep in one step: no wake-up
falls between the two, and a sleeper that dies leaves nothing behind. `NOTIFY`, and a sleeper's
deadline, move it to the end of the lock's queue; it is answered when it has the lock again.

A lock that one process alone takes again and again is *delegated* to it (`DELEGATE`). That process takes
and releases it by itself, and to everyone else the request that it was delegated to holds it. Whatever
needs the lock, or must know whether it is free, has it called back first (`recall`).

Processes that fight for a lock have it delegated too, each for a *slice* of time, in the order in which
they ask. Each takes and releases it many times before the next one gets it. Only a process that asks
again as soon as it has released the lock gets a slice: another would leave it unused.
"""

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

#: A wait that is shorter may end before the holder of a delegated lock has answered.
RECALL_SECONDS = 0.05
#: How often in a row a process takes a lock before it has it delegated. Each recall doubles it.
_ENOUGH, _MOST_ENOUGH = 4, 256
#: How long a process keeps a lock that others wait for. A lock takes a tenth of that to change hands.
SLICE_SECONDS = 0.003
#: A process that asks again so soon after a release, so often in a row, does little but take the lock.
_SOON_SECONDS, _SOON_ENOUGH = 0.001, 4
#: A lock knows how soon they ask again of this number of processes.
_MOST_KNOWN = 256


class LockRules(SyncObject):
    """State of a lock.

    Attributes:
        delegated: the holder's process takes and releases it by itself.
        holder: the request that took it, `ACQUIRE` or `SLEEP`; `None` where it is free.
        thread: the holder's thread, as the member numbers these.
        abandoned: its last holder died, and it was not released since.
        queue: who waits for it, in order. `detail` is the thread; behind it, for a sleeper that was
            woken, are its condition and its answer.
        sleepers: who sleeps, by condition.
    """

    kind: ClassVar = Kind.LOCK
    __slots__ = (
        "_asleep",
        "_called",
        "_enough",
        "_epoch",
        "_has_slice",
        "_last",
        "_released_at",
        "_soon",
        "_streak",
        "abandoned",
        "delegated",
        "holder",
        "queue",
        "sleepers",
        "thread",
    )

    def __init__(self) -> None:
        super().__init__()
        self.holder: Op | None = None
        self.thread = 0
        self.abandoned = False
        self._epoch = 0
        self.queue: dict[Op, Waiter] = {}
        self.sleepers: dict[bytes, dict[Op, Waiter]] = {}
        #: The condition of each sleeper.
        self._asleep: dict[Op, bytes] = {}
        self.delegated = False
        #: Whether a delegated lock was called back.
        self._called = False
        #: Who took it last, and how often in a row; how often is enough to have it delegated.
        self._last = b""
        self._streak = 0
        self._enough = _ENOUGH
        #: Whether the holder was given a slice of time.
        self._has_slice = False
        #: By process: when it released the lock, and how often in a row it asked again soon after that.
        self._released_at: dict[bytes, float] = {}
        self._soon: dict[bytes, int] = {}

    @property
    def epoch(self) -> int:
        """How often it was taken from a dead holder, times two."""
        return self._epoch

    @property
    def owner(self) -> bytes | None:
        """The member that holds it."""
        return None if self.holder is None else self.holder[0]

    def request(self, asked: Asked, now: float) -> Answers:
        """Do an operation; without an answer of its own, the request waits."""
        op, operation, arguments = asked.op, asked.operation, asked.arguments
        if self.delegated and _must_know(operation, arguments):
            self._call_back()
            return [Answer(op, Outcome.AGAIN)]
        if operation is Operation.ACQUIRE or operation is Operation.DELEGATE:
            self._note_asked(op[0], now)
            return self._acquire(op, arguments, now)
        if operation is Operation.RETURN:
            self._note_released(now)
            return [Answer(op, Outcome.OK), *self._release_of((op[0], arguments[0]))]
        if operation is Operation.RELEASE:
            self._note_released(now)
            is_held = self.holder is not None
            outcome = Outcome.OK if is_held else Outcome.TOO_MANY
            return [Answer(op, outcome), *(self._release() if is_held else ())]
        if operation is Operation.SLEEP:
            return self._sleep(op, arguments, now)
        if operation is Operation.NOTIFY:
            return self._notify(op, arguments)
        if operation is Operation.SLEEPERS:
            return [Answer(op, Outcome.OK, (len(self.sleepers.get(arguments[0], ())),))]
        # `VALUE`: what the standard library's semaphore of a lock would be worth.
        return [Answer(op, Outcome.OK, (int(self.holder is None),))]

    def _acquire(self, op: Op, arguments: Any, now: float) -> Answers:
        block, seconds, thread, *rest = arguments
        slot = rest[0] if rest else 0
        if self.holder is None:
            return [self._grant(op, thread, Outcome.OK, slot)]
        if not block:
            return [Answer(op, Outcome.NO)]
        self.queue[op] = self.wait(op, Operation.ACQUIRE, seconds, now, thread, slot)
        self._call_back()
        return []

    def _note_asked(self, process: bytes, now: float) -> None:
        """Note how soon behind its last release a process asks again."""
        released_at = self._released_at.pop(process, None)
        count = self._soon.pop(process, 0)
        if released_at is not None and now - released_at <= _SOON_SECONDS:
            count = min(count + 1, 2 * _SOON_ENOUGH)
        else:
            count //= 2
        if count:
            self._soon[process] = count

    def _note_released(self, now: float) -> None:
        if self.holder is None:
            return
        if len(self._released_at) >= _MOST_KNOWN:
            self._released_at.clear()
            self._soon.clear()
        self._released_at[self.holder[0]] = now

    def _grant(self, op: Op, thread: int, outcome: Outcome, slot: int = 0) -> Answer:
        """Let a request have the lock; delegate it if the process has a `slot` and takes it often."""
        self.holder, self.thread = op, thread
        self.changes.state = True
        self._streak = self._streak + 1 if op[0] == self._last else 1
        self._last = op[0]
        self._has_slice = self._soon.get(op[0], 0) >= _SOON_ENOUGH
        often = self._has_slice or self._streak >= self._enough
        if not slot or not often or self.abandoned or self.sleepers:
            return Answer(op, outcome, (self.abandoned,))
        self.delegated = True
        return Answer(op, outcome, (False, SLICE_SECONDS if self._has_slice else 0.0))

    def _call_back(self) -> None:
        """Have a delegated lock called back, once."""
        if self.delegated and not self._called:
            self._called = True
            if not self._has_slice:
                self._enough = min(2 * self._enough, _MOST_ENOUGH)
            self.recall = self.holder

    def call_again(self) -> Answers:
        """Have a delegated lock called back again: the way to its holder was lost."""
        if self.delegated and (self._called or self.queue):
            self._called = False
            self._call_back()
        return []

    def returned(self, op: Op, thread: int, now: float, *, held: bool) -> Answers:
        """End a delegation. The process has the lock, in the thread of this number if it is known."""
        if self.holder != op or not self.delegated:
            return []
        if not held:
            self._note_released(now)
            return self._release()
        self.thread = thread or self.thread
        return self.undelegate()

    def undelegate(self) -> Answers:
        """Let the holder have the lock as any other that was not delegated."""
        self.changes.state = self.changes.state or self.delegated
        self.delegated = self._called = False
        return []

    def _release_of(self, op: Op) -> Answers:
        return self._release() if self.holder == op else []

    def _release(self) -> Answers:
        self.abandoned = False
        return self._pass_on()

    def _pass_on(self) -> Answers:
        self.holder, self.changes.state = None, True
        self.delegated = self._called = False
        self.recall = None
        if not self.queue:
            return []
        op = next(iter(self.queue))
        waiter = self.queue.pop(op)
        self.changes.waiters[op] = None
        thread, *slot = waiter.detail
        may_delegate = waiter.operation is Operation.ACQUIRE and slot
        answer = self._grant(op, thread, _verdict(waiter), slot[0] if may_delegate else 0)
        if self.queue:
            self._call_back()
        return [answer]

    def _sleep(self, op: Op, arguments: Any, now: float) -> Answers:
        ticket, condition, seconds, thread = arguments
        if self.holder != (op[0], ticket):
            return [Answer(op, Outcome.TOO_MANY)]
        waiter = self.wait(op, Operation.SLEEP, seconds, now, thread, condition)
        self.sleepers.setdefault(condition, {})[op] = waiter
        self._asleep[op] = condition
        return self._release()

    def _notify(self, op: Op, arguments: Any) -> Answers:
        condition, count = arguments
        sleepers = self.sleepers.get(condition, {})
        woken = list(sleepers)[: count or len(sleepers)]
        answers = [Answer(op, Outcome.OK, (len(woken),))]
        for one in woken:
            answers += self._wake(one, Outcome.OK)
        return answers

    def _wake(self, op: Op, verdict: Outcome) -> Answers:
        """Let a sleeper ask for the lock, behind all that ask already."""
        waiter = self._forget_sleeper(op)
        thread, condition = waiter.detail[:2]
        if self.holder is None:
            return [self._grant(op, thread, verdict)]
        woken = Waiter(
            self.take_order(), Operation.SLEEP, waiter.since, None, (thread, condition, verdict)
        )
        self.queue[op] = woken
        self._call_back()
        return []

    def _forget_sleeper(self, op: Op) -> Waiter:
        condition = self._asleep.pop(op)
        sleepers = self.sleepers[condition]
        waiter = sleepers.pop(op)
        if not sleepers:
            del self.sleepers[condition]
        self.changes.waiters[op] = None
        return waiter

    def waiting(self) -> dict[Op, Waiter]:
        """Return all that wait for the lock, and all that sleep."""
        found = dict(self.queue)
        for sleepers in self.sleepers.values():
            found |= sleepers
        return found

    def find(self, op: Op) -> Waiter | None:
        """Return a request that waits or sleeps."""
        if op in self._asleep:
            return self.sleepers[self._asleep[op]][op]
        return self.queue.get(op)

    def asleep(self, op: Op) -> bool:
        """Return whether a request sleeps on a condition."""
        return op in self._asleep

    def withdraw(self, op: Op) -> Answers:
        """Take out a request that waits or sleeps."""
        if op in self._asleep:
            self._forget_sleeper(op)
        elif self.queue.pop(op, None) is not None:
            self.changes.waiters[op] = None
        return []

    def undo(self, answer: Answer) -> Answers:
        """Release the lock, if the request is what holds it."""
        return self._release_of(answer.op)

    def expire(self, op: Op) -> Answers:
        """End a wait: a sleeper gets the lock first, and is told then."""
        if op in self._asleep:
            return self._wake(op, Outcome.NO)
        return super().expire(op)

    def abandon(self) -> Answers:
        """Pass on the lock of a holder that died."""
        self.abandoned = True
        self._epoch += 2
        return self._pass_on()

    def state(self) -> list[Any]:
        """Return all but waiting requests."""
        holder = None if self.holder is None else list(self.holder)
        return [
            self.next_order,
            holder,
            self.thread,
            self.abandoned,
            self._epoch,
            self.delegated,
        ]

    def restore(self, state: Any, waiting: dict[Op, Waiter]) -> None:
        """Become what was written."""
        self.next_order, holder, self.thread, self.abandoned, self._epoch, self.delegated = state
        self.holder = None if holder is None else (holder[0], holder[1])
        for op, waiter in sorted(waiting.items(), key=lambda one: one[1].order):
            if waiter.operation is Operation.SLEEP and not _is_awake(waiter):
                condition = waiter.detail[1]
                self.sleepers.setdefault(condition, {})[op] = waiter
                self._asleep[op] = condition
            else:
                self.queue[op] = waiter

    def validate(self) -> None:
        """Check every invariant."""
        ensure(self.holder is not None or not self.queue, "a free lock is waited for")
        ensure(self.holder not in self.queue, "the holder of a lock waits for it")
        ensure(in_order(self.queue), "requests for a lock wait out of order")
        ensure(not self._epoch % 2, "the epoch of a lock at the broker is odd")
        asleep = [op for sleepers in self.sleepers.values() for op in sleepers]
        ensure(all(map(in_order, self.sleepers.values())), "sleepers are out of order")
        ensure(all(self.sleepers.values()), "a condition without sleepers is remembered")
        ensure(sorted(asleep) == sorted(self._asleep), "the index of sleepers is wrong")
        ensure(not set(asleep) & set(self.queue), "a sleeper waits for its lock as well")
        ensure(self.holder not in self._asleep, "the holder of a lock sleeps")
        ensure(self.holder is not None or not self.delegated, "a free lock is delegated")
        ensure(self.recall is None, "a delegated lock is not asked for")


def _must_know(operation: Operation, arguments: Any) -> bool:
    """Return whether an operation depends on whether a delegated lock is free just now."""
    if operation is Operation.ACQUIRE or operation is Operation.DELEGATE:
        block, seconds = arguments[:2]
        return not block or (seconds is not None and seconds < RECALL_SECONDS)
    return operation is Operation.RELEASE or operation is Operation.VALUE


def _is_awake(waiter: Waiter) -> bool:
    """Return whether a request to sleep has been woken, and waits for the lock."""
    return len(waiter.detail) == 3


def _verdict(waiter: Waiter) -> Outcome:
    """Return what to answer a request when it gets the lock."""
    return Outcome(waiter.detail[2]) if _is_awake(waiter) else Outcome.OK
