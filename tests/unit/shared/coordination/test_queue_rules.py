"""The rules of a queue."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from harness.worlds.sync_object import MEMBERS, Stage, StageMachine
from manyhands_shared.coordination.kinds import MAX_QUEUE_BYTES, Operation, Outcome
from manyhands_shared.coordination.rules.model import Op
from manyhands_shared.coordination.rules.queue import QueueRules

A, B, C = MEMBERS


def queue_of(stage: Stage) -> QueueRules:
    assert isinstance(stage.object, QueueRules)
    return stage.object


def put(
    stage: Stage,
    member: bytes,
    *bodies: bytes | tuple[bytes, ...],
    block: bool = True,
    seconds: float | None = None,
) -> Op:
    return stage.ask(member, Operation.PUT, block, seconds, bodies=bodies)


def get(stage: Stage, member: bytes, *, block: bool = True, seconds: float | None = None) -> Op:
    return stage.ask(member, Operation.GET, block, seconds)


def got(stage: Stage, op: Op) -> object:
    answer = stage.answers.get(op)
    return answer.bodies[0] if answer and answer.bodies else None


def test_items_come_in_order_each_once() -> None:
    stage = Stage(QueueRules(0))
    first = get(stage, B)
    put(stage, A, b"1", b"2")
    put(stage, C, (b"3", b"buffer"))
    asked = [first, get(stage, C), get(stage, B)]
    assert [got(stage, op) for op in asked] == [b"1", b"2", (b"3", b"buffer")]
    assert got(stage, get(stage, B)) is None
    for op in asked:
        stage.confirm(op)
    assert not queue_of(stage).items
    assert queue_of(stage).item_bytes == 0


def watch(stage: Stage, member: bytes, *, block: bool = True, seconds: float | None = None) -> Op:
    return stage.ask(member, Operation.WAIT, block, seconds)


def test_an_item_is_waited_for_without_being_taken() -> None:
    stage = Stage(QueueRules(0))
    assert stage.outcome(watch(stage, A, block=False)) is Outcome.NO
    first, second, gone = watch(stage, A), watch(stage, B), watch(stage, C)
    stage.give_up(gone)
    # What takes it comes first.
    taker = get(stage, C)
    put(stage, A, b"1")
    assert got(stage, taker) == b"1"
    assert stage.outcome(first) is stage.outcome(second) is None
    put(stage, A, b"2")
    assert stage.outcome(first) is stage.outcome(second) is Outcome.OK
    assert stage.outcome(gone) is None
    assert stage.outcome(watch(stage, C)) is Outcome.OK
    assert got(stage, get(stage, B)) == b"2"


def test_an_item_that_did_not_arrive_is_the_first_again() -> None:
    stage = Stage(QueueRules(0))
    put(stage, A, b"1", b"2", b"3")
    first, second = get(stage, B), get(stage, C)
    stage.give_up(second)
    stage.give_up(first)
    assert [got(stage, get(stage, A)) for _ in range(3)] == [b"1", b"2", b"3"]


def test_an_item_that_a_dead_getter_did_not_confirm_goes_to_the_next() -> None:
    stage = Stage(QueueRules(0))
    put(stage, A, b"1", b"2")
    stage.confirm(get(stage, B))
    get(stage, B)
    waits = get(stage, C)
    stage.die(B)
    assert got(stage, waits) == b"2"


def test_a_bounded_queue_takes_the_next_when_one_is_gone() -> None:
    stage = Stage(QueueRules(1))
    put(stage, A, b"1")
    assert stage.outcome(put(stage, A, b"x", block=False)) is Outcome.NO
    waits, timed = put(stage, B, b"2"), put(stage, C, b"3", seconds=1.0)
    stage.advance(1.0)
    assert stage.outcome(timed) is Outcome.NO
    assert stage.outcome(waits) is None
    assert got(stage, get(stage, A)) == b"1"
    assert stage.outcome(waits) is Outcome.OK
    assert got(stage, get(stage, A)) == b"2"


def test_what_was_put_by_one_that_gave_up_is_taken_out_unless_it_is_gone() -> None:
    stage = Stage(QueueRules(2))
    kept, undone = put(stage, A, b"1"), put(stage, A, b"2")
    stage.give_up(undone)
    assert queue_of(stage).count == 1
    taken = get(stage, B)
    stage.give_up(kept)
    assert got(stage, taken) == b"1"
    assert stage.answers[stage.ask(A, Operation.SIZE)].arguments == (0, 1)


def test_a_producer_is_answered_when_the_queue_holds_less() -> None:
    stage = Stage(QueueRules(0))
    half = bytes(MAX_QUEUE_BYTES // 2)
    put(stage, A, half)
    waits = put(stage, A, half, b"more")
    assert stage.outcome(waits) is None
    taken = get(stage, B)
    assert stage.outcome(waits) is None
    stage.confirm(taken)
    assert stage.outcome(waits) is Outcome.OK


def test_joining_waits_until_all_is_done() -> None:
    stage = Stage(QueueRules(0))
    put(stage, A, b"1", b"2")
    waits, timed = stage.ask(B, Operation.JOIN, None), stage.ask(C, Operation.JOIN, 1.0)
    stage.ask(A, Operation.DONE)
    stage.advance(1.0)
    assert stage.outcome(timed) is Outcome.NO
    assert stage.outcome(waits) is None
    stage.ask(A, Operation.DONE)
    assert stage.outcome(waits) is Outcome.OK
    assert stage.outcome(stage.ask(A, Operation.DONE)) is Outcome.TOO_MANY
    assert stage.outcome(stage.ask(A, Operation.JOIN, None)) is Outcome.OK


class Queues(StageMachine):
    """Any sequence, bounded or not: each item is delivered once, and in order."""

    maxsize = 0

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(QueueRules(self.maxsize))
        self.made = 0
        self.bodies: dict[Op, bytes] = {}
        self.confirmed: list[bytes] = []
        self.given_up: set[Op] = set()

    @rule(member=st.sampled_from(MEMBERS), block=st.booleans(), timed=st.booleans())
    def put(self, member: bytes, block: bool, timed: bool) -> None:
        self.made += 1
        body = b"%05d" % self.made
        op = put(self.stage, member, body, block=block, seconds=2.0 if timed else None)
        self.bodies[op] = body

    @rule(member=st.sampled_from(MEMBERS), block=st.booleans(), timed=st.booleans())
    def get(self, member: bytes, block: bool, timed: bool) -> None:
        queue = queue_of(self.stage)
        there = sorted(
            number
            for number, item in queue.items.items()
            if item.getter is None
            and number not in {waiter.detail[0] for waiter in queue.putters.values()}
        )
        first = queue.items[there[0]].body if there else None
        op = get(self.stage, member, block=block, seconds=2.0 if timed else None)
        assert got(self.stage, op) == first
        if first is None:
            assert self.stage.outcome(op) is (None if block else Outcome.NO)

    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        marked = list(queue_of(self.stage).marked)
        if marked:
            op = data.draw(st.sampled_from(marked))
            self.stage.confirm(op)
            body = got(self.stage, op)
            assert isinstance(body, bytes)
            self.confirmed.append(body)

    @rule(member=st.sampled_from(MEMBERS))
    def die(self, member: bytes) -> None:
        self.given_up |= {op for op in self.stage.object.waiting() if op[0] == member}
        self.stage.die(member)

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        confirmed = {op for op in self.stage.answers if got(self.stage, op) in self.confirmed}
        known = {*self.stage.answers, *self.stage.object.waiting()} - confirmed
        if known:
            op = data.draw(st.sampled_from(sorted(known)))
            self.given_up.add(op)
            self.stage.give_up(op)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """Confirmed or held, once: all that was put, but for what its producer took back."""
        held = [item.body for item in queue_of(self.stage).items.values()]
        known = [*self.confirmed, *held]
        assert len(known) == len(set(known))
        refused = {op for op in self.bodies if self.stage.outcome(op) is Outcome.NO}
        for op, body in self.bodies.items():
            if op in refused:
                assert body not in known
            elif op not in self.given_up:
                assert body in known


class BoundedQueues(Queues):
    """The same with a bound of two."""

    maxsize = 2


TestQueues = Queues.TestCase
TestBoundedQueues = BoundedQueues.TestCase
