"""Objects at the broker: repetition, giving up, deaths, time, and a broker that is killed."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from harness.worlds.coordination import PROGRAM, ROOT, CoordinationWorld
from manyhands_broker.coordination.limits import CoordinationLimits
from manyhands_broker.coordination.objects import sync_objects
from manyhands_broker.coordination.records import RecordKind
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.protocol.messages.coordination import ItemsTaken, Request, Withdraw

A, B, C = (bytes([letter]) * 16 for letter in b"ABC")
KEY = b"k" * 16


def world_with(
    kind: Kind, *facts: int, limits: CoordinationLimits | None = None
) -> CoordinationWorld:
    world = CoordinationWorld((A, B, C), limits)
    world.create(kind, *facts)
    return world


def acquire(
    world: CoordinationWorld, member: bytes, block: bool = True, seconds: float | None = None
) -> tuple[bytes, int]:
    return world.ask(member, Operation.ACQUIRE, KEY, block, seconds, 0)


def get(world: CoordinationWorld, member: bytes) -> tuple[bytes, int]:
    return world.ask(member, Operation.GET, KEY, True, None)


def repeat(world: CoordinationWorld, asked: tuple[bytes, int], operation: Operation) -> None:
    member, number = asked
    arguments = [True, None, 0] if operation is Operation.ACQUIRE else [True, None]
    world.send(Request(member, number, 0, KEY, operation, False, arguments, []))


def test_a_request_that_is_repeated_is_answered_again_and_done_once() -> None:
    world = world_with(Kind.SEMAPHORE, 2, 2)
    asked = acquire(world, A)
    repeat(world, asked, Operation.ACQUIRE)
    assert [one.outcome for one in world.responses[asked]] == [Outcome.OK, Outcome.OK]
    assert world.outcome(acquire(world, B)) is Outcome.OK
    assert world.outcome(acquire(world, C, block=False)) is Outcome.NO


def test_a_wait_that_is_repeated_goes_on() -> None:
    world = world_with(Kind.LOCK)
    acquire(world, A)
    waits = acquire(world, B)
    repeat(world, waits, Operation.ACQUIRE)
    assert world.outcome(waits) is None
    world.ask(A, Operation.RELEASE, KEY, quiet=True)
    assert len(world.responses[waits]) == 1


def test_answers_are_kept_until_the_member_has_a_later_one_however_long_another_waits() -> None:
    world = world_with(Kind.LOCK)
    world.ask(A, Operation.SLEEP, KEY, acquire(world, A)[1], b"c" * 16, None, 0)
    for _ in range(5):
        taken = acquire(world, A)
        world.settled[A] = taken[1]
        world.ask(A, Operation.RELEASE, KEY, quiet=True)
    assert list(world.members[A].answers) == []
    last = acquire(world, A)
    assert list(world.members[A].answers) == [last[1]]


def test_a_quiet_request_has_no_answer() -> None:
    world = world_with(Kind.LOCK)
    acquire(world, A)
    released = world.ask(A, Operation.RELEASE, KEY, quiet=True)
    assert world.outcome(released) is None
    assert world.outcome(acquire(world, B)) is Outcome.OK


@pytest.mark.parametrize("answered", [False, True])
def test_what_was_granted_to_one_that_gave_up_goes_to_the_next(answered: bool) -> None:
    world = world_with(Kind.LOCK)
    first = acquire(world, A)
    if answered:
        world.settled[A] = first[1]
        world.ask(A, Operation.SYNC, bytes(16))
    waits = acquire(world, B)
    world.send(Withdraw(A, first[1], KEY))
    assert world.outcome(waits) is Outcome.OK
    # The withdrawal comes again with a new link: it does nothing.
    world.send(Withdraw(A, first[1], KEY))
    assert world.outcome(acquire(world, C, block=False)) is Outcome.NO


def test_a_request_that_is_given_up_waits_no_more() -> None:
    world = world_with(Kind.LOCK)
    acquire(world, A)
    waits, following = acquire(world, B), acquire(world, C)
    world.send(Withdraw(B, waits[1], KEY))
    world.ask(A, Operation.RELEASE, KEY, quiet=True)
    assert world.outcome(waits) is None
    assert world.outcome(following) is Outcome.OK


def test_the_lock_of_a_killed_holder_is_passed_on_and_the_next_is_told() -> None:
    world = world_with(Kind.LOCK)
    before = world.responses[acquire(world, A)][0]
    waits = acquire(world, B)
    world.end(A, by_signal=True)
    response = world.responses[waits][0]
    assert response.arguments == [True]
    assert response.epoch > before.epoch


def test_the_lock_of_a_holder_that_ends_by_itself_stays_locked_and_the_root_is_told() -> None:
    world = world_with(Kind.LOCK)
    acquire(world, A)
    waits = acquire(world, B)
    world.end(A)
    assert world.outcome(waits) is None
    (note,) = world.notes
    assert note.startswith("A ended and holds a lock, made at program.py:1; it stays locked until")
    world.ask(C, Operation.RELEASE, KEY)
    assert world.outcome(waits) is Outcome.OK


def test_a_lost_leader_breaks_its_barrier() -> None:
    world = world_with(Kind.BARRIER, 2)
    waits = world.ask(A, Operation.ARRIVE, KEY, None, True)
    leads = world.ask(B, Operation.ARRIVE, KEY, None, True)
    assert world.outcome(leads) is Outcome.LEAD
    world.end(B)
    assert world.outcome(waits) is Outcome.BROKEN


def test_an_item_is_gone_when_its_agent_has_said_that_it_arrived() -> None:
    world = world_with(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, False, None, bodies=[b"1", b"2"], quiet=True)
    first = get(world, B)
    world.send(ItemsTaken(B, [first[1]]))
    second = get(world, B)
    world.end(B, host_lost=True)
    third = get(world, C)
    assert world.responses[first][0].bodies == [b"1"]
    assert world.responses[third][0].bodies == world.responses[second][0].bodies == [b"2"]


def test_an_item_is_gone_when_its_member_has_a_later_answer() -> None:
    world = world_with(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, False, None, bodies=[b"1", b"2"], quiet=True)
    world.settled[B] = get(world, B)[1]
    world.ask(B, Operation.SYNC, bytes(16))
    world.end(B, by_signal=True)
    assert world.responses[get(world, C)][0].bodies == [b"2"]


def test_a_long_item_is_written_once_whoever_gets_it() -> None:
    world = world_with(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, False, None, bodies=[b"1" * 5_000], quiet=True)
    written = {key: world.log[key] for key in world.log if key[0] is RecordKind.ITEM}
    assert len(written) == 1
    get(world, B)
    world.end(B, by_signal=True)
    get(world, C)
    assert all(world.log[key] is record for key, record in written.items())


def test_who_got_a_short_item_is_written_with_it_alone_however_many_there_are() -> None:
    world = world_with(Kind.QUEUE, 0)
    for _ in range(3):
        world.ask(A, Operation.PUT, KEY, False, None, bodies=[b"1"], quiet=True)
    get(world, B)
    queue = {key: world.log[key] for key in world.log if key[0] is RecordKind.OBJECT}
    get(world, C)
    assert {key: world.log[key] for key in world.log if key[0] is RecordKind.OBJECT} == queue


def test_items_that_did_not_arrive_come_again_in_their_order() -> None:
    world = world_with(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, False, None, bodies=[b"1", b"2", b"3"], quiet=True)
    get(world, B), get(world, B)
    world.end(B, by_signal=True)
    assert [world.responses[get(world, C)][0].bodies for _ in range(3)] == [[b"1"], [b"2"], [b"3"]]


@pytest.mark.parametrize("restarts", [False, True])
def test_they_come_in_their_order_to_those_who_wait(restarts: bool) -> None:
    world = world_with(Kind.QUEUE, 0)
    first, second = get(world, B), get(world, B)
    third, fourth = get(world, A), get(world, C)
    # Whom a long one was handed over to is written apart.
    items = [b"1" * 5_000, b"2"]
    world.ask(A, Operation.PUT, KEY, False, None, bodies=items, quiet=True)
    assert [world.responses[asked][0].bodies for asked in (first, second)] == [[b] for b in items]
    if restarts:
        world.kill_broker()
    world.end(B)
    assert [world.responses[asked][0].bodies for asked in (third, fourth)] == [[b] for b in items]


def test_a_wait_with_a_time_ends_with_it_after_a_restart_too() -> None:
    world = world_with(Kind.LOCK)
    acquire(world, A)
    waits = acquire(world, B, seconds=5.0)
    world.advance(4.0)
    world.kill_broker()
    world.advance(0.9)
    assert world.outcome(waits) is None
    world.advance(0.2)
    assert world.outcome(waits) is Outcome.NO


def test_a_clock_that_begins_anew_does_not_make_waits_longer() -> None:
    world = world_with(Kind.LOCK)
    acquire(world, A)
    waits = acquire(world, B, seconds=5.0)
    world.now = 1.0
    world.kill_broker()
    world.advance(5.1)
    assert world.outcome(waits) is Outcome.NO


def test_an_early_arrival_times_out_when_it_can() -> None:
    world = world_with(Kind.BARRIER, 2)
    world.ask(A, Operation.ARRIVE, KEY, None, True)
    leads = world.ask(B, Operation.ARRIVE, KEY, None, True)
    early = world.ask(C, Operation.ARRIVE, KEY, 1.0, True)
    world.advance(2.0)
    assert world.outcome(early) is None
    world.ask(B, Operation.OPEN, KEY, world.responses[leads][0].arguments[1], quiet=True)
    world.advance(0.1)
    assert world.outcome(early) is Outcome.BROKEN


def test_objects_of_other_programs_and_unknown_ones_are_not_there() -> None:
    world = world_with(Kind.LOCK)
    assert world.outcome(world.ask(A, Operation.VALUE, b"x" * 16)) is Outcome.NONE
    world.objects._table.objects[KEY].program = b"Q" * 16
    world.objects._table.of_program[b"Q" * 16] = world.objects._table.of_program.pop(PROGRAM)
    world.state.programs[b"Q" * 16] = world.state.programs[PROGRAM]
    assert world.outcome(acquire(world, A)) is Outcome.NONE


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (Operation.GET, (True, None)),
        (99, ()),
        (Operation.ACQUIRE, ()),
        (Operation.ACQUIRE, (True, -1.0, 0)),
        (Operation.ACQUIRE, (1, None, 0)),
        (Operation.SLEEP, (1, b"short", None, 0)),
    ],
)
def test_what_a_lock_does_not_understand_is_refused(
    operation: int, arguments: tuple[object, ...]
) -> None:
    world = world_with(Kind.LOCK)
    assert world.outcome(world.ask(A, operation, KEY, *arguments)) is Outcome.MALFORMED


def test_a_program_has_as_many_objects_and_bytes_as_it_may() -> None:
    world = world_with(
        Kind.QUEUE, 0, limits=CoordinationLimits(program_objects=2, coordination_bytes=10_000)
    )
    world.create(Kind.LOCK, key=b"l" * 16)
    asked = world.ask(A, Operation.CREATE, b"m" * 16, int(Kind.LOCK), [], "")
    assert world.outcome(asked) is Outcome.NO_ROOM
    asked = world.ask(A, Operation.PUT, KEY, True, None, bodies=[bytes(9_000)])
    assert world.outcome(asked) is Outcome.NO_ROOM
    assert world.outcome(world.ask(A, Operation.SIZE, KEY)) is Outcome.OK


def test_what_waits_for_an_object_that_is_let_go_of_is_told() -> None:
    world = world_with(Kind.EVENT)
    waits = world.ask(A, Operation.WAIT, KEY, True, None)
    world.ask(ROOT, Operation.DISCARD, KEY, quiet=True)
    assert world.outcome(waits) is Outcome.NONE
    assert world.state.used_bytes == 0


def test_nothing_of_a_program_that_has_ended_is_left() -> None:
    world = world_with(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, False, None, bodies=[b"1", b"2"], quiet=True)
    get(world, B), get(world, B), get(world, C)
    world.create(Kind.LOCK, key=b"l" * 16)
    world.end_program()
    assert world.log == {}
    assert world.state.used_bytes == 0


class Restarts(RuleBasedStateMachine):
    """Any history with kills of the broker: answers are the same as without."""

    def __init__(self) -> None:
        super().__init__()
        self.worlds = [CoordinationWorld((A, B, C)) for _ in range(2)]
        for world in self.worlds:
            world.create(Kind.LOCK, key=b"l" * 16)
            world.create(Kind.QUEUE, 2, key=b"q" * 16)
            world.create(Kind.SEMAPHORE, 1, 2, key=b"s" * 16)
            world.create(Kind.BARRIER, 2, key=b"b" * 16)
        self.made = 0

    def ask(
        self, member: bytes, operation: Operation, key: bytes, *arguments: object, body: bytes = b""
    ) -> None:
        bodies = [body] if body else []
        for world in self.worlds:
            if member in world.living:
                world.ask(member, operation, key, *arguments, bodies=bodies)
        self.compare()

    def compare(self) -> None:
        first, second = self.worlds
        assert first.responses.keys() == second.responses.keys()
        for asked, responses in first.responses.items():
            assert responses[0] == second.responses[asked][0]

    @rule()
    def kill_broker(self) -> None:
        self.worlds[0].kill_broker()
        self.compare()

    @rule(member=st.sampled_from((A, B, C)), key=st.sampled_from((b"l" * 16, b"s" * 16)))
    def acquire(self, member: bytes, key: bytes) -> None:
        self.ask(member, Operation.ACQUIRE, key, True, 3.0, 1)

    @rule(member=st.sampled_from((A, B, C)), key=st.sampled_from((b"l" * 16, b"s" * 16)))
    def release(self, member: bytes, key: bytes) -> None:
        self.ask(member, Operation.RELEASE, key)

    @rule(member=st.sampled_from((A, B, C)), data=st.data())
    def sleep(self, member: bytes, data: st.DataObject) -> None:
        numbers = range(1, self.worlds[0].numbers.get(member, 0) + 1)
        ticket = data.draw(st.sampled_from(numbers)) if numbers else 1
        self.ask(member, Operation.SLEEP, b"l" * 16, ticket, b"c" * 16, 4.0, 1)

    @rule(member=st.sampled_from((A, B, C)))
    def notify(self, member: bytes) -> None:
        self.ask(member, Operation.NOTIFY, b"l" * 16, b"c" * 16, 1)

    @rule(member=st.sampled_from((A, B, C)))
    def put(self, member: bytes) -> None:
        self.made += 1
        # Who got a long one is written apart.
        body = (b"%d " % self.made).ljust(5_000 if self.made % 2 else 0)
        self.ask(member, Operation.PUT, b"q" * 16, True, 2.0, body=body)

    @rule(member=st.sampled_from((A, B, C)))
    def get(self, member: bytes) -> None:
        self.ask(member, Operation.GET, b"q" * 16, True, 2.5)

    @rule(member=st.sampled_from((A, B, C)), action=st.booleans())
    def arrive(self, member: bytes, action: bool) -> None:
        self.ask(member, Operation.ARRIVE, b"b" * 16, 2.0, action)

    @rule(member=st.sampled_from((A, B, C)), generation=st.integers(0, 3))
    def open(self, member: bytes, generation: int) -> None:
        self.ask(member, Operation.OPEN, b"b" * 16, generation)

    @rule(member=st.sampled_from((A, B, C)))
    def reset(self, member: bytes) -> None:
        self.ask(member, Operation.RESET, b"b" * 16)

    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """Repeat and confirm what was answered, or give it up; a member that has ended does neither."""
        asked = [one for one in self.worlds[0].responses if one[0] in self.worlds[0].living]
        if not asked:
            return
        member, number = data.draw(st.sampled_from(sorted(asked)))
        how = data.draw(st.sampled_from(("repeat", "taken", "give up")))
        for world in self.worlds:
            key = data.draw(st.just(b"q" * 16))
            if how == "repeat":
                world.send(Request(member, number, 0, key, Operation.SIZE, False, [], []))
            elif how == "taken":
                world.send(ItemsTaken(member, [number]))
            else:
                world.send(Withdraw(member, number, key))
        self.compare()

    @rule(seconds=st.sampled_from((0.5, 2.0)))
    def advance(self, seconds: float) -> None:
        for world in self.worlds:
            world.advance(seconds)
        self.compare()

    @rule(member=st.sampled_from((B, C)), by_signal=st.booleans())
    def end(self, member: bytes, by_signal: bool) -> None:
        for world in self.worlds:
            if member in world.living:
                world.end(member, by_signal=by_signal)
        self.compare()


TestRestarts = Restarts.TestCase
TestRestarts.settings = settings(deadline=None)


def test_a_queue_that_took_the_key_of_another_does_not_keep_the_broker_from_its_log() -> None:
    world = world_with(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, True, None, bodies=[b"item"])
    taken = get(world, B)
    world.ask(A, Operation.DISCARD, KEY, quiet=True)
    world.create(Kind.QUEUE, 0)
    world.ask(A, Operation.PUT, KEY, True, None, bodies=[b"another"])
    world.kill_broker()
    assert list(world.members[B].answers[taken[1]].bodies) == []
    assert world.responses[get(world, C)][-1].bodies == [b"another"]


def test_a_member_that_settles_nothing_is_refused_before_it_fills_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync_objects, "MAX_UNSETTLED", 10)
    world = world_with(Kind.EVENT)
    waits = [world.ask(A, Operation.WAIT, KEY, True, None) for _ in range(5)]
    asked = [world.ask(A, Operation.SYNC, bytes(16)) for _ in range(6)]
    assert [world.outcome(one) for one in asked] == [Outcome.OK] * 5 + [Outcome.NO_ROOM]
    assert len(world.members[A].answers) + len(world.members[A].waiting) == 10
    world.ask(B, Operation.SET, KEY)
    assert [world.outcome(one) for one in waits] == [Outcome.OK] * 5
    # One that says what it has goes on.
    world.settled[A] = waits[-1][1]
    assert world.outcome(world.ask(A, Operation.SYNC, bytes(16))) is Outcome.OK
    assert len(world.members[A].answers) == 1
