"""A queue: items in order of arrival, each handed over exactly once.

An item that answers a `GET` stays here, marked, until its hand-over is confirmed (`confirm`). If the
getter's request is undone before that, the item is the first again. Items are numbered as they arrive,
and the order of their numbers is that of the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from manyhands_shared.coordination.kinds import MAX_QUEUE_BYTES, Kind, Operation, Outcome
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
from manyhands_shared.payloads.payload import Payload, nbytes

#: A longer item is written once, and whom it was handed over to stands with the queue. Of a shorter one
#: that is written with the item, for a queue may have many getters.
_LONG = 4_096


@dataclass(slots=True)
class Item:
    """What was put: by which request, the bytes, and the request that it was handed over to."""

    producer: Op
    body: Payload
    size: int
    getter: Op | None = None

    @property
    def is_long(self) -> bool:
        """Whether its getter stands with the queue."""
        return self.size > _LONG


class QueueRules(SyncObject):
    """State of a queue.

    Attributes:
        maxsize: how many items there may be; 0 is any number.
        items: all items, by number.
        count: those that can be had now.
        item_bytes: of all items.
        marked: items that were handed over, by the getter's request, until that is confirmed.
        long_marked: those of them that are long.
        getters: who waits for an item.
        watchers: who waits until there is an item, and does not take it.
        putters: who waits for room in a bounded queue. `detail` is the number of the item.
        throttled: producers whose items are in, and that are answered when the queue has shrunk.
        unfinished: items that no member has said to be done.
        joiners: who waits until there is none.
    """

    kind: ClassVar = Kind.QUEUE
    __slots__ = (
        "_available",
        "count",
        "getters",
        "item_bytes",
        "items",
        "joiners",
        "long_marked",
        "marked",
        "maxsize",
        "next_item",
        "putters",
        "throttled",
        "unfinished",
        "watchers",
    )

    def __init__(self, maxsize: int) -> None:
        super().__init__()
        self.maxsize = maxsize
        self.items: dict[int, Item] = {}
        self.count = 0
        self.item_bytes = 0
        self.next_item = 0
        self.unfinished = 0
        self.marked: dict[Op, int] = {}
        self.long_marked: dict[Op, int] = {}
        self.getters: dict[Op, Waiter] = {}
        self.watchers: dict[Op, Waiter] = {}
        self.putters: dict[Op, Waiter] = {}
        self.throttled: dict[Op, Waiter] = {}
        self.joiners: dict[Op, Waiter] = {}
        #: Numbers of items that can be had, in order; those of items that are gone are passed over.
        self._available: deque[int] = deque()

    def request(self, asked: Asked, now: float) -> Answers:
        """Do an operation; without an answer of its own, the request waits."""
        op, operation, arguments = asked.op, asked.operation, asked.arguments
        if operation is Operation.PUT:
            return self._put(asked, now)
        if operation is Operation.GET:
            return self._get(op, arguments, now)
        if operation is Operation.WAIT:
            return self._watch(op, arguments, now)
        if operation is Operation.SIZE:
            return [Answer(op, Outcome.OK, (self.count, self.unfinished))]
        if operation is Operation.DONE:
            return self._done(op)
        if not self.unfinished:
            return [Answer(op, Outcome.OK)]
        self.joiners[op] = self.wait(op, Operation.JOIN, arguments[0], now)
        return []

    def _put(self, asked: Asked, now: float) -> Answers:
        op, bodies, (block, seconds) = asked.op, asked.bodies, asked.arguments
        if not self.maxsize:
            numbers = [self._hold(op, body) for body in bodies]
            answers = [answer for number in numbers for answer in self._admit(number)]
            if block and self.item_bytes > MAX_QUEUE_BYTES:
                self.throttled[op] = self.wait(op, Operation.PUT, None, now)
                return answers
            return [Answer(op, Outcome.OK), *answers]
        if len(bodies) != 1:
            return [Answer(op, Outcome.MALFORMED)]
        if self.count < self.maxsize and not self.putters:
            number = self._hold(op, bodies[0])
            return [Answer(op, Outcome.OK, (number,)), *self._admit(number)]
        if not block:
            return [Answer(op, Outcome.NO)]
        self.putters[op] = self.wait(op, Operation.PUT, seconds, now, self._hold(op, bodies[0]))
        return []

    def _hold(self, op: Op, body: Payload) -> int:
        """Take the bytes of an item; return its number."""
        number = self.next_item = self.next_item + 1
        size = nbytes(body)
        self.items[number] = Item(op, body, size)
        self.item_bytes += size
        self.changes.items[number] = None
        self.changes.state = True
        return number

    def _admit(self, number: int) -> Answers:
        """Make an item one that can be had, and hand it over if it is waited for."""
        self.unfinished += 1
        self.changes.state = True
        self.count += 1
        self._available.append(number)
        return self._serve()

    def _serve(self) -> Answers:
        """Hand items to those who wait for them."""
        answers: Answers = []
        while self.count and self.getters:
            op = next(iter(self.getters))
            del self.getters[op]
            self.changes.waiters[op] = None
            answers.append(self._hand_over(op))
        if self.count and self.watchers:
            answers += [Answer(op, Outcome.OK) for op in self.watchers]
            self.changes.waiters.update(dict.fromkeys(self.watchers))
            self.watchers.clear()
        return answers

    def _hand_over(self, op: Op) -> Answer:
        number = self._available.popleft()
        while number not in self.items:
            number = self._available.popleft()
        self.count -= 1
        item = self.items[number]
        self._mark(number, item, op)
        self._note(number, item)
        return Answer(op, Outcome.OK, (number,), (item.body,))

    def _mark(self, number: int, item: Item, op: Op) -> None:
        self.marked[op], item.getter = number, op
        if item.is_long:
            self.long_marked[op] = number

    def _unmark(self, op: Op) -> int | None:
        self.long_marked.pop(op, None)
        return self.marked.pop(op, None)

    def _note(self, number: int, item: Item) -> None:
        """Have it written that an item has another getter, or none."""
        if item.is_long:
            self.changes.state = True
        else:
            self.changes.items[number] = None

    def _get(self, op: Op, arguments: Any, now: float) -> Answers:
        block, seconds = arguments
        if self.count:
            return [self._hand_over(op), *self._fill()]
        if not block:
            return [Answer(op, Outcome.NO)]
        self.getters[op] = self.wait(op, Operation.GET, seconds, now)
        return []

    def _watch(self, op: Op, arguments: Any, now: float) -> Answers:
        block, seconds = arguments
        if self.count:
            return [Answer(op, Outcome.OK)]
        if not block:
            return [Answer(op, Outcome.NO)]
        self.watchers[op] = self.wait(op, Operation.WAIT, seconds, now)
        return []

    def _fill(self) -> Answers:
        """Admit items that wait for room."""
        answers: Answers = []
        while self.putters and self.count < self.maxsize:
            op = next(iter(self.putters))
            waiter = self.putters.pop(op)
            self.changes.waiters[op] = None
            number = waiter.detail[0]
            answers += [Answer(op, Outcome.OK, (number,)), *self._admit(number)]
        return answers

    def _done(self, op: Op) -> Answers:
        if not self.unfinished:
            return [Answer(op, Outcome.TOO_MANY)]
        return [Answer(op, Outcome.OK), *self._finish_one()]

    def _finish_one(self) -> Answers:
        self.unfinished -= 1
        self.changes.state = True
        if self.unfinished:
            return []
        joiners, self.joiners = self.joiners, {}
        self.changes.waiters.update(dict.fromkeys(joiners))
        return [Answer(one, Outcome.OK) for one in joiners]

    def confirm(self, ops: Iterable[Op]) -> Answers:
        """Drop the items that these requests were given: they have arrived."""
        for op in ops:
            number = self._unmark(op)
            if number is not None:
                self._drop(number)
        return self._unthrottle()

    def _drop(self, number: int) -> None:
        self.item_bytes -= self.items.pop(number).size
        self.changes.items[number] = None
        self.changes.state = True

    def _unthrottle(self) -> Answers:
        if not self.throttled or self.item_bytes > MAX_QUEUE_BYTES:
            return []
        answers = [Answer(op, Outcome.OK) for op in self.throttled]
        self.changes.waiters.update(dict.fromkeys(self.throttled))
        self.throttled.clear()
        return answers

    def waiting(self) -> dict[Op, Waiter]:
        """Return all that wait: for items, for room, until all is done."""
        return self.getters | self.watchers | self.putters | self.throttled | self.joiners

    def find(self, op: Op) -> Waiter | None:
        """Return a request that waits."""
        lists = (self.getters, self.watchers, self.putters, self.throttled, self.joiners)
        return next((waiting[op] for waiting in lists if op in waiting), None)

    def withdraw(self, op: Op) -> Answers:
        """Take out a request that waits; what it wanted to put is gone with it."""
        waiter = self.putters.pop(op, None)
        if waiter is not None:
            self._drop(waiter.detail[0])
        else:
            others = (self.getters, self.watchers, self.throttled, self.joiners)
            found = [waiting.pop(op, None) for waiting in others]
            if not any(found):
                return []
        self.changes.waiters[op] = None
        return self._unthrottle()

    def undo(self, answer: Answer) -> Answers:
        """Make the item of a `GET` the first again; take out that of a bounded `PUT`, if it is there."""
        return self.take_back([answer.op]) if answer.op in self.marked else self._retract(answer)

    def take_back(self, ops: Iterable[Op]) -> Answers:
        """Make the items that these requests were given the first again, in their order."""
        # All of them before one is handed over again: the first that waits gets the first item.
        for number in sorted((self.marked[op] for op in ops), reverse=True):
            self._restore_place(number)
        return self._serve()

    def _restore_place(self, number: int) -> None:
        item = self.items[number]
        assert item.getter is not None
        self._unmark(item.getter)
        earlier = []
        while self._available and self._available[0] < number:
            earlier.append(self._available.popleft())
        self._available.appendleft(number)
        self._available.extendleft(reversed(earlier))
        item.getter = None
        self.count += 1
        self._note(number, item)

    def _retract(self, answer: Answer) -> Answers:
        item = self.items.get(answer.arguments[0]) if answer.arguments else None
        if item is None or item.producer != answer.op or item.getter is not None:
            return []
        self._drop(answer.arguments[0])
        self.count -= 1
        return [*self._finish_one(), *self._fill(), *self._unthrottle()]

    def state(self) -> list[Any]:
        """Return all but waiting requests and items; whom long items were handed over to is in it."""
        marked = [[number, *op] for op, number in self.long_marked.items()]
        return [self.next_order, self.maxsize, self.next_item, self.unfinished, marked]

    def item_state(self, number: int) -> list[Any] | None:
        """Return who put an item, and who got it if it is short; `None` if it is gone."""
        item = self.items.get(number)
        if item is None:
            return None
        getter = None if item.getter is None or item.is_long else list(item.getter)
        return [list(item.producer), getter]

    def restore(self, state: Any, waiting: dict[Op, Waiter]) -> None:
        """Become what was written; `restore_item` has been called for each item."""
        self.next_order, self.maxsize, self.next_item, self.unfinished, marked = state
        for number, member, serial in marked:
            self._mark(number, self.items[number], (member, serial))
        lists = {
            Operation.GET: self.getters,
            Operation.WAIT: self.watchers,
            Operation.JOIN: self.joiners,
        }
        for op, waiter in sorted(waiting.items(), key=lambda one: one[1].order):
            if waiter.operation is Operation.PUT:
                (self.putters if waiter.detail else self.throttled)[op] = waiter
            else:
                lists[waiter.operation][op] = waiter
        apart = {waiter.detail[0] for waiter in self.putters.values()} | set(self.marked.values())
        self._available = deque(sorted(set(self.items) - apart))
        self.count = len(self._available)

    def restore_item(self, number: int, state: Any, body: Payload) -> None:
        """Hold an item that was written."""
        (member, serial), getter = state
        size = nbytes(body)
        item = self.items[number] = Item((member, serial), body, size)
        self.item_bytes += size
        if getter is not None:
            self._mark(number, item, (getter[0], getter[1]))

    def validate(self) -> None:
        """Check every invariant."""
        there = [number for number in self._available if number in self.items]
        ensure(there == sorted(there), "items are out of order")
        ensure(len(there) == self.count, "the count of items is wrong")
        waited = self.getters or self.watchers
        ensure(not self.count or not waited, "a queue with items is waited at")
        apart = {waiter.detail[0] for waiter in self.putters.values()}
        marked = set(self.marked.values())
        ensure(len(marked) == len(self.marked), "an item was given to two")
        given = {item.getter: number for number, item in self.items.items() if item.getter}
        ensure(given == self.marked, "an item's getter is not the one that it was given to")
        long = {op: number for op, number in self.marked.items() if self.items[number].is_long}
        ensure(long == self.long_marked, "the long items that were given are others")
        known = set(there) | apart | marked
        ensure(known == set(self.items), "an item is in no state, or in two")
        ensure(len(there) + len(apart) + len(marked) == len(self.items), "an item is in two states")
        ensure(
            self.item_bytes == sum(item.size for item in self.items.values()), "the bytes are wrong"
        )
        room = bool(self.maxsize) and self.count < self.maxsize
        ensure(not (room and self.putters), "a queue with room keeps items out")
        ensure(self.unfinished > 0 or not self.joiners, "a queue that is done is waited for")
        ensure(all(map(in_order, (self.getters, self.putters))), "requests wait out of order")
