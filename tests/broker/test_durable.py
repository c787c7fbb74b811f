"""Durable jobs in the scheduler: what is written when, and what a restart brings back."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, LinkClosed, Persist, Received, Send
from manyhands_broker.core import records as r
from manyhands_broker.core.effects import Effect
from manyhands_broker.journal import MemoryJournal
from manyhands_shared import messages as m
from manyhands_shared.failure import Failure
from manyhands_shared.messages import Status

FUNCTION = bytes(range(16))
LIMITS = Limits(lease=10.0, session_grace=60.0)


class World:
    """A core and its journal; commits are made as the loop makes them. Restarts keep the journal."""

    def __init__(self, limits: Limits = LIMITS, journal: MemoryJournal | None = None) -> None:
        self.limits = limits
        self.journal = journal or MemoryJournal()
        self.now = 100.0
        self.inbox: dict[bytes, list[Any]] = {}
        self.records: list[r.Record] = []
        self.core = self.start()

    def start(self) -> Core:
        rng = random.Random(7)
        self.core = Core(self.limits, bytes(16), self.journal, self.now, epoch=1e6, rng=rng)
        self.do(self.core.restore(self.journal.jobs()))
        return self.core

    def restart(self, after: float = 1.0) -> None:
        """The broker is killed and started again; its journal is all that stays."""
        self.journal.rollback()
        self.inbox.clear()
        self.now += after
        self.start()

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self.records.append(effect.record)
                self.journal.append(effect.record)
        self.journal.commit()
        for effect in effects:
            if isinstance(effect, Send):
                self.inbox.setdefault(effect.peer, []).append(effect.message)

    def drain(self, *said: tuple[bytes, m.Message]) -> None:
        """Everything that is said in one turn of the loop, and what the broker makes of it."""
        effects: list[Effect] = []
        for peer, message in said:
            effects += self.core.handle(Received(peer, message), self.now)
        effects += self.core.handle(Drained(), self.now)
        self.do(effects)
        self.core.validate()

    def wait(self, seconds: float, *alive: bytes) -> None:
        """Let time pass; nodes in `alive` renew their leases."""
        end = self.now + seconds
        while self.now < end:
            wake = self.core.wake_at
            self.now = min(end, self.now + 1.0, max(wake or end, self.now + 1e-6))
            self.drain(*((node, m.Renew(0, 2, 100)) for node in alive))

    def take(self, peer: bytes, kind: type) -> list[Any]:
        """Messages of one kind that `peer` has got since the last look."""
        box = self.inbox.get(peer, [])
        self.inbox[peer] = [message for message in box if not isinstance(message, kind)]
        return [message for message in box if isinstance(message, kind)]

    # Peers

    def client(self, peer: bytes = b"client", last_seq: int = 0) -> None:
        self.drain((peer, m.ClientHello(1, peer.ljust(16, b"."), peer.decode(), last_seq, 0, {})))

    def node(
        self, peer: bytes = b"node", holding: Iterable[m.Span] = (), slots: int = 2, **info: Any
    ) -> list[m.Span]:
        boot = peer.ljust(16, b"_")
        self.drain((peer, m.WorkerHello(1, peer.decode(), boot, slots, 1_000, list(holding), info)))
        [welcome] = self.take(peer, m.WorkerWelcome)
        return welcome.keep  # type: ignore[no-any-return]

    def submit(
        self,
        count: int = 1,
        job: str = "job",
        *,
        first: int = 0,
        closed: bool = True,
        peer: bytes = b"client",
        **options: Any,
    ) -> None:
        options = {"durable": True, **options}
        bodies = [b"arg%d" % index for index in range(first, first + count)]
        self.drain(
            (peer, m.Function(FUNCTION, "f", [b"code"])),
            (peer, m.Submit([m.SubmitGroup(job, FUNCTION, options, first, closed, bodies)])),
        )

    def assigned(self, peer: bytes = b"node") -> dict[tuple[str, int], tuple[int, Any]]:
        """(job, index) → (attempt, body) of what a node was given since the last look."""
        return {
            (group.job, index): (group.attempt, body)
            for message in self.take(peer, m.Assign)
            for group in message.groups
            for index, body in zip(group.indices, group.bodies, strict=True)
        }

    def result(
        self,
        index: int,
        attempt: int = 1,
        job: str = "job",
        status: Status = Status.OK,
        body: Any = None,
    ) -> m.Results:
        if body is None:
            body = b"result%d" % index
            if status:
                body = Failure("ValueError", "bad", bases=("ValueError", "Exception")).encode()
        return m.Results(1, [m.ResultGroup(job, attempt, [index], bytes([status]), [body], 0.01)])

    def results(self, peer: bytes = b"client") -> list[tuple[str, int, int]]:
        """(job, index, status) in the order of arrival."""
        return [
            (group.job, index, status)
            for message in self.take(peer, m.Results)
            for group in message.groups
            for index, status in zip(group.indices, group.statuses, strict=True)
        ]

    def ask(self, what: str, peer: bytes = b"client", **arguments: Any) -> Any:
        self.drain((peer, m.Query(1, what, arguments)))
        [reply] = self.take(peer, m.Reply)
        if reply.error:
            raise LookupError(reply.error)
        return reply.data

    def run_all(self, peer: bytes = b"node") -> int:
        """End everything that the node is given until nothing more comes; returns how much."""
        ran = 0
        while given := self.assigned(peer):
            ran += len(given)
            self.drain(*((peer, self.result(i, n, j)) for (j, i), (n, _) in given.items()))
        return ran


@pytest.fixture
def world() -> World:
    made = World()
    made.client()
    return made


def test_a_durable_job_is_written_down_before_it_is_accepted(world: World) -> None:
    effects = []
    for message in (
        m.Function(FUNCTION, "f", [b"code"]),
        m.Submit([m.SubmitGroup("job", FUNCTION, {"durable": True}, 0, True, [b"a", b"b"])]),
    ):
        effects += world.core.handle(Received(b"client", message), world.now)
    effects += world.core.handle(Drained(), world.now)
    kinds = [type(e.record) for e in effects if isinstance(e, Persist)]
    assert kinds == [r.FunctionKept, r.JobOpened, r.TasksTaken, r.JobClosed]
    [accepted] = [e.message for e in effects if isinstance(e, Send)]
    assert accepted.jobs == [m.JobCount("job", 2)]  # type: ignore[union-attr]


def test_an_attached_job_writes_nothing(world: World) -> None:
    world.node()
    world.submit(2, durable=False)
    world.run_all()
    assert world.records == []


def test_a_restart_keeps_jobs(world: World) -> None:
    world.submit(3)
    world.restart()
    world.node()
    assert not world.assigned(), "nodes that run them already come first"
    world.wait(world.limits.rejoin_wait, b"node")
    assert world.run_all() == 3
    world.client()
    assert world.ask("job", id="job")["state"] == "done"
    world.restart()
    world.client()
    assert world.ask("job", id="job")["done"] == 3
    world.submit(3)
    assert world.take(b"client", m.Accepted)[-1].jobs == [m.JobCount("job", 3)]
    assert not world.take(b"client", m.Rejected)


def test_payloads_and_functions_come_back(world: World) -> None:
    world.submit(2)
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    assert world.take(b"node", m.Function)[0].bodies == [b"code"]
    assert {body for _, body in world.assigned().values()} == {b"arg0", b"arg1"}


def test_what_has_ended_does_not_run_again(world: World) -> None:
    world.node()
    world.submit(5)
    given = world.assigned()
    world.drain((b"node", world.result(0)), (b"node", world.result(1, status=Status.RAISED)))
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    ran = set()
    while given := world.assigned():
        ran |= {index for _, index in given}
        world.drain(*((b"node", world.result(i, n)) for (_, i), (n, _) in given.items()))
    assert ran == {2, 3, 4}
    world.client()
    found = world.ask("job", id="job")
    assert (found["done"], found["failed"], found["state"]) == (4, 1, "failed")


def test_running_attempts_are_adopted(world: World) -> None:
    world.node()
    world.submit(4)
    given = world.assigned()
    assert set(given) == {("job", 0), ("job", 1)}
    world.restart()
    span = m.Span("job", 1, [0, 1])
    assert world.node(holding=[span]) == [span]
    world.wait(1.0, b"node")
    assert not world.assigned(), "both slots are taken"
    world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    assert set(world.assigned()) == {("job", 2), ("job", 3)}


def test_an_adopted_task_whose_node_dies_runs_again(world: World) -> None:
    world.node()
    world.submit(4)
    world.restart()
    world.node(holding=[m.Span("job", 3, [0, 2])])
    world.drain((b"node", m.Bye("")))
    world.wait(1.0)
    world.node(b"other", slots=4)
    given = world.assigned(b"other")
    assert {index: attempt for (_, index), (attempt, _) in given.items()} == {
        0: 4,
        1: 1,
        2: 4,
        3: 1,
    }


def test_a_stale_attempt_is_not_adopted(world: World) -> None:
    world.node()
    world.submit()
    world.assigned()
    world.drain((b"node", m.Bye("")))
    world.node(b"other")
    assert world.assigned(b"other")["job", 0][0] == 2
    world.restart()
    assert world.node(holding=[m.Span("job", 1, [0])]) == []
    assert world.node(b"other", holding=[m.Span("job", 2, [0])]) == [m.Span("job", 2, [0])]


def test_what_a_node_holds_of_a_finished_job_is_dropped(world: World) -> None:
    world.node()
    world.submit()
    world.run_all()
    world.restart()
    assert world.node(holding=[m.Span("job", 1, [0])]) == []


def test_attach_gives_what_was_and_what_comes(world: World) -> None:
    world.node()
    world.submit(3)
    world.assigned()
    world.drain((b"node", world.result(0)))
    world.client(b"other")
    world.drain((b"other", m.Attach("job")))
    world.wait(0.1, b"node")
    assert world.results(b"other") == [("job", 0, 0)]
    world.drain((b"node", world.result(1)))
    assert world.results(b"other") == [("job", 1, 0)]
    world.drain((b"other", m.Detach("job")))
    world.drain((b"node", world.result(2)))
    assert world.results(b"other") == []
    world.drain((b"other", m.Attach("job")))
    world.wait(0.1, b"node")
    assert sorted(world.results(b"other")) == [("job", index, 0) for index in range(3)]


def test_attaching_in_the_drain_in_which_the_job_ends(world: World) -> None:
    world.node()
    world.submit()
    world.assigned()
    world.drain((b"client", m.Attach("job")), (b"node", world.result(0)))
    world.wait(0.1, b"node")
    assert world.results() == [("job", 0, 0)]


def test_attach_to_what_is_not_there(world: World) -> None:
    world.submit(durable=False)
    world.drain((b"client", m.Attach("job")), (b"client", m.Attach("none")))
    assert not world.core.book.readers


@pytest.mark.parametrize("over", [False, True], ids=["running", "over"])
def test_results_that_are_held_back_come_later_from_where_they_stopped(over: bool) -> None:
    world = World()
    world.client()
    world.client(b"other")
    world.node()
    world.submit(4, closed=over)
    world.drain((b"other", m.Attach("job")))
    given = world.assigned()
    world.drain((b"node", world.result(0)))
    assert world.results(b"other") == [("job", 0, 0)]
    world.drain((b"other", m.Throttle("job", hold=True)))
    world.drain((b"other", m.Throttle("job", hold=True)), (b"other", m.Throttle("no", hold=True)))
    for index in range(1, 4):
        if ("job", index) not in given:
            given = world.assigned()
        world.drain((b"node", world.result(index)))
    world.wait(1.0, b"node")
    assert world.results(b"other") == []
    assert world.core.wake_at is None or world.core.wake_at > world.now + 1e-3, "no idle turns"
    world.drain((b"other", m.Throttle("job", hold=False)))
    world.wait(0.1, b"node")
    assert world.results(b"other") == [("job", index, 0) for index in range(1, 4)]
    world.drain((b"other", m.Throttle("job", hold=False)))
    if not over:
        world.submit(1, first=4)
        world.assigned()
        world.drain((b"node", world.result(4)))
        assert world.results(b"other") == [("job", 4, 0)], "and again as they come"
    assert not world.core.book.held_readers


def test_who_leaves_while_results_are_held_back_leaves_nothing() -> None:
    world = World()
    world.client()
    world.node()
    world.submit(2)
    for farewell in (m.Detach("job"), m.Bye("")):
        world.client(b"other")
        world.drain((b"other", m.Attach("job")), (b"other", m.Throttle("job", hold=True)))
        assert world.core.book.held_readers
        world.drain((b"other", farewell))
        assert not world.core.book.held_readers


@pytest.mark.parametrize("seed", range(30))
def test_attached_readers_miss_nothing_and_see_nothing_twice(seed: int) -> None:
    rng = random.Random(seed)
    world = World(Limits(lease=1e6, page_bytes=rng.choice([1, 30, 1000]), result_bytes=2_000))
    world.client()
    count = 60
    world.node(slots=count)
    world.submit(count)
    waiting = list(range(count))
    readers: dict[bytes, list[int]] = {}
    seqs: dict[bytes, int] = {}

    def look() -> None:
        for peer in readers:
            for message in world.take(peer, m.Results):
                assert message.seq == seqs.get(peer, 0) + 1
                seqs[peer] = message.seq
                readers[peer] += [i for group in message.groups for i in group.indices]

    holds = bool(seed % 2)  # then what is not committed yet is told again
    for _ in range(400):
        said: list[tuple[bytes, m.Message]] = []
        for _ in range(rng.choice([0, 1, 1, 3])):
            chance = rng.random()
            if chance < 0.5 and waiting:
                index = waiting.pop(rng.randrange(len(waiting)))
                said.append((b"node", world.result(index)))
            elif chance < 0.6 and len(readers) < 3:
                peer = b"reader%d" % len(readers)
                world.client(peer)
                readers[peer] = []
                said.append((peer, m.Attach("job")))
            elif chance < 0.7 and holds and readers:
                peer = rng.choice(list(readers))
                said.append((peer, m.Throttle("job", hold=rng.random() < 0.5)))
            elif readers:
                peer = rng.choice(list(readers))
                said.append((peer, m.Ack(seqs.get(peer, 0))))
        world.now += rng.choice([0.0, 0.01])
        world.drain(*said)
        look()
    world.drain(*((peer, m.Throttle("job", hold=False)) for peer in readers))
    for _ in range(100):
        world.now += 0.01
        world.drain(*((peer, m.Ack(seq)) for peer, seq in seqs.items()))
        look()
    assert not waiting
    for peer, seen in readers.items():
        assert sorted(set(seen) if holds else seen) == list(range(count)), f"{peer!r}, seed {seed}"


def test_a_reader_that_takes_nothing_is_given_no_more(world: World) -> None:
    world.limits = Limits(lease=1e6, result_bytes=1_000)
    world.restart()
    world.client()
    world.node(slots=100)
    world.submit(100)
    world.drain((b"client", m.Attach("job")))
    world.wait(0.1, b"node")
    for index in range(100):
        world.drain((b"node", world.result(index)))
    session = world.core.book.session_of[b"client"]
    assert session.unacked_bytes < 2_000
    seen: list[tuple[str, int, int]] = []
    while len(seen) < 100:
        more = world.results()
        assert more
        seen += more
        world.drain((b"client", m.Ack(session.seq)))
        world.wait(0.01, b"node")
    assert sorted(seen) == [("job", index, 0) for index in range(100)]


def test_the_end_of_a_reader_leaves_nothing(world: World) -> None:
    world.node()
    world.submit(2)
    world.client(b"other")
    world.drain((b"other", m.Attach("job")))
    world.wait(0.1, b"node")
    world.drain((b"other", m.Bye("")))
    assert not world.core.book.readers
    assert not world.core.book.jobs["job"].watchers
    world.run_all()


def test_retries_come_after_a_growing_wait(world: World) -> None:
    world.node()
    world.submit(retries=3, retry_delay=1.0, retry_max_delay=3.0)
    waits = []
    for attempt in (1, 2, 3):
        assert world.assigned()["job", 0][0] == attempt
        failed = world.now
        world.drain((b"node", world.result(0, attempt, status=Status.RAISED)))
        assert "wait to be run again" in world.ask("why", id="job")[0]
        while not world.inbox.get(b"node") or not any(
            isinstance(message, m.Assign) for message in world.inbox[b"node"]
        ):
            world.wait(0.01, b"node")
        waits.append(world.now - failed)
    for waited, delay in zip(waits, (1.0, 2.0, 3.0), strict=True):
        assert delay / 2 <= waited <= delay + 0.02
    world.drain((b"client", m.Attach("job")))
    world.drain((b"node", world.result(0, 4, status=Status.RAISED)))
    world.wait(0.1, b"node")
    assert world.results() == [("job", 0, Status.RAISED)]


@pytest.mark.parametrize(
    ("retry_on", "status", "again"),
    [
        (["ValueError"], Status.RAISED, True),
        (["Exception"], Status.RAISED, True),
        (["KeyError"], Status.RAISED, False),
        (["TimeoutError"], Status.TIMED_OUT, True),
        (["ValueError"], Status.TIMED_OUT, False),
        ([], Status.TIMED_OUT, True),
        ([], Status.UNSENDABLE, False),
    ],
)
def test_which_failures_are_worth_another_run(
    world: World, retry_on: list[str], status: Status, again: bool
) -> None:
    world.node()
    world.submit(retries=1, retry_on=retry_on, retry_delay=0.1)
    world.assigned()
    world.drain((b"node", world.result(0, status=status)))
    world.wait(0.2, b"node")
    assert bool(world.assigned()) is again


def test_a_session_at_its_limit_goes_on_after_a_postponed_task(world: World) -> None:
    world.node()
    hello = m.ClientHello(1, b"limited.........", "limited", 0, 1, {})
    world.drain((b"limited", hello))
    world.submit(2, peer=b"limited", durable=False, retries=1, retry_delay=50.0)
    assert set(world.assigned()) == {("job", 0)}
    world.drain((b"node", world.result(0, status=Status.RAISED)))
    assert set(world.assigned()) == {("job", 1)}


def test_a_retry_keeps_its_wait_after_adoption(world: World) -> None:
    world.node()
    world.submit(2, retries=1, retry_delay=8.0)
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.drain((b"node", world.result(0, status=Status.RAISED)))
    world.wait(3.9, b"node")
    assert not world.assigned()
    world.wait(4.2, b"node")
    assert set(world.assigned()) == {("job", 0)}


@pytest.mark.parametrize("restart", [False, True])
def test_a_deadline_ends_what_has_not_ended(world: World, restart: bool) -> None:
    world.node()
    world.submit(4, closed=False, deadline=20.0)
    world.drain((b"client", m.Attach("job")))
    world.assigned()
    world.wait(19.0, b"node")
    assert world.results() == []
    if restart:
        world.restart(0.5)
        world.client()
        world.node(holding=[m.Span("job", 1, [0, 1])])
        world.drain((b"client", m.Attach("job")))
    world.wait(1.5, b"node")
    assert sorted(world.results()) == [("job", 2, Status.TIMED_OUT), ("job", 3, Status.TIMED_OUT)]
    [cancel] = world.take(b"node", m.Cancel)
    assert cancel.spans[0].indices == [0, 1]
    world.drain((b"node", world.result(0, status=Status.CANCELLED)), (b"node", world.result(1)))
    assert sorted(world.results()) == [("job", 0, Status.TIMED_OUT), ("job", 1, Status.OK)]
    world.submit(1, first=4, deadline=20.0)
    assert world.results() == [("job", 4, Status.TIMED_OUT)]
    assert world.ask("job", id="job")["state"] == "failed"


def test_at_most_once_is_lost_with_its_node(world: World) -> None:
    world.node()
    world.submit(3, at_most_once=True)
    assert len(world.assigned()) == 2
    world.drain((b"client", m.Attach("job")))
    world.drain((b"node", m.Returned([m.Span("job", 1, [1])])))
    assert world.assigned()["job", 1][0] == 2, "what was not started may be given out again"
    world.do(world.core.handle(LinkClosed(b"node"), world.now))
    world.wait(world.limits.lease + 1)
    assert sorted(world.results()) == [("job", 0, Status.LOST), ("job", 1, Status.LOST)]
    world.node(b"other")
    assert set(world.assigned(b"other")) == {("job", 2)}


@pytest.mark.parametrize("comes_back", [True, False])
def test_at_most_once_holds_over_a_restart(world: World, comes_back: bool) -> None:
    world.node()
    world.submit(3, at_most_once=True)
    assert len(world.assigned()) == 2
    world.restart()
    world.client()
    world.drain((b"client", m.Attach("job")))
    world.node(b"other", slots=4)
    world.wait(5.0, b"other")
    assert set(world.assigned(b"other")) == {("job", 2)}
    assert "may not run twice" in " ".join(world.ask("why", id="job"))
    if comes_back:
        span = m.Span("job", 1, [0, 1])
        assert world.node(holding=[span]) == [span]
        world.drain((b"node", world.result(0)), (b"node", world.result(1)))
    world.wait(world.limits.session_grace + 1, b"other", *([b"node"] if comes_back else []))
    status = Status.OK if comes_back else Status.LOST
    assert sorted(world.results()) == [("job", 0, status), ("job", 1, status)]
    assert not world.assigned(b"other")


def test_a_task_that_ends_nodes_is_quarantined_with_its_story(world: World) -> None:
    world.submit(crash_limit=3)
    world.drain((b"client", m.Attach("job")))
    for attempt in (1, 2, 3):
        name = b"node%d" % attempt
        world.node(name, slots=1)
        assert world.assigned(name)["job", 0][0] == attempt
        world.do(world.core.handle(LinkClosed(name), world.now))
        world.wait(world.limits.link_grace + 0.1)
    [message] = world.take(b"client", m.Results)
    [group] = message.groups
    assert group.statuses == bytes([Status.CRASHED])
    story = Failure.decode(group.bodies[0]).story
    assert [line.split()[:4] for line in story] == [
        ["attempt", str(n), "node", f"node{n}:"] for n in (1, 2, 3)
    ]


def test_a_job_comes_after_others_with_their_results(world: World) -> None:
    world.node()
    world.submit(2, "a")
    world.submit(1, "b")
    world.submit(1, "c", after=["a", "b"])
    assert "comes after" in " ".join(world.ask("why", id="c"))
    assert world.run_all() == 3
    assert not world.assigned()
    world.wait(0.1, b"node")
    [given] = world.take(b"node", m.Given)
    assert given.job == "c"
    assert sorted((g.job, i) for g in given.results for i in g.indices) == [
        *(("a", 0), ("a", 1)),
        ("b", 0),
    ]
    assert world.run_all() == 1


@pytest.mark.parametrize("restart", ["never", "before", "after"])
@pytest.mark.parametrize("late", [False, True])
def test_a_failed_parent_fails_its_followers(world: World, restart: str, late: bool) -> None:
    world.node()
    world.submit(1, "a")
    world.assigned()
    if not late:
        world.submit(2, "b", after=["a"])
    if restart == "before":
        world.restart()
        world.client()
        world.node(holding=[m.Span("a", 1, [0])])
    world.drain((b"node", world.result(0, job="a", status=Status.RAISED)))
    if restart == "after":
        world.restart()
        world.client()
    if late:
        world.submit(2, "b", after=["a"])
    world.drain((b"client", m.Attach("b")))
    world.wait(1.0)
    assert sorted(world.results()) == [("b", 0, Status.CANCELLED), ("b", 1, Status.CANCELLED)]
    assert world.ask("job", id="b")["state"] == "cancelled"


def test_dependencies_hold_over_a_restart(world: World) -> None:
    world.submit(1, "a")
    world.submit(1, "b", after=["a"])
    world.restart()
    world.client()
    world.node()
    world.wait(1.0, b"node")
    assert world.run_all() == 1
    world.restart()
    world.node()
    world.wait(1.0, b"node")
    assert len(world.take(b"node", m.Given)) == 1
    assert set(world.assigned()) == {("b", 0)}


def test_what_cannot_come_after_is_rejected(world: World) -> None:
    world.submit(1, "attached", durable=False)
    for parents, options in ((["none"], {}), (["attached"], {}), (["a"], {"durable": False})):
        world.submit(1, "job", after=parents, **options)
        [rejected] = world.take(b"client", m.Rejected)
        assert (rejected.job, rejected.first) == ("job", 0)
        assert rejected.reason


def test_resources_and_why(world: World) -> None:
    world.submit(3, resources={"gpu": 1})
    assert "no node is connected" in world.ask("why", id="job")[0]
    world.node(b"plain")
    assert "no node has what each task takes: gpu=1" in world.ask("why", id="job")[0]
    assert not world.assigned(b"plain")
    world.node(b"rich", slots=4, resources={"gpu": 2})
    assert len(world.assigned(b"rich")) == 2
    assert "busy" in world.ask("why", id="job")[0]
    world.submit(1, "other")
    assert world.assigned(b"plain") or world.assigned(b"rich"), "others are not held up"
    world.drain((b"rich", world.result(0)))
    assert set(world.assigned(b"rich")) == {("job", 2)}


def test_pause_and_resume_survive_restarts(world: World) -> None:
    world.submit(1)
    world.ask("pause", id="job")
    world.restart()
    world.client()
    world.node()
    world.wait(2.0, b"node")
    assert not world.assigned()
    assert "paused" in world.ask("why", id="job")[0]
    assert world.ask("job", id="job")["state"] == "paused"
    world.ask("resume", id="job")
    assert len(world.assigned()) == 1
    world.restart()
    world.node()
    world.wait(2.0, b"node")
    assert len(world.assigned()) == 1


@pytest.mark.parametrize("how", ["query", "message"])
@pytest.mark.parametrize("closed", [True, False])
def test_a_cancellation_survives_a_restart(world: World, how: str, closed: bool) -> None:
    world.node()
    world.submit(4, closed=closed)
    world.assigned()
    if how == "query":
        world.ask("cancel", id="job")
    else:
        world.drain((b"client", m.Cancel([m.Span("job", 0, [])])))
    assert world.take(b"node", m.Cancel)[0].spans == [m.Span("job", 1, [0, 1])]
    world.restart()
    assert world.node(holding=[m.Span("job", 1, [0, 1])]) == []
    world.client()
    found = world.ask("job", id="job")
    assert (found["state"], found["cancelled"], found["running"]) == ("cancelled", 4, 0)
    world.submit(1, first=4)
    [rejected] = world.take(b"client", m.Rejected)
    assert rejected.first == 4


def test_a_lost_cancellation_is_sent_again(world: World) -> None:
    world.node()
    world.submit(1)
    world.assigned()
    world.ask("cancel", id="job")
    world.take(b"node", m.Cancel)
    hello = m.WorkerHello(1, "node", b"node".ljust(16, b"_"), 2, 100, [m.Span("job", 1, [0])], {})
    world.drain((b"node2", hello))
    assert world.take(b"node2", m.Cancel)[0].spans == [m.Span("job", 1, [0])]


def test_forget(world: World) -> None:
    world.node()
    world.submit(1, "a")
    with pytest.raises(LookupError, match="not over"):
        world.ask("forget", id="a")
    world.submit(1, "b", after=["a"])
    world.drain((b"node", world.result(0, job="a")))
    with pytest.raises(LookupError, match="still needed by b"):
        world.ask("forget", id="a")
    world.wait(0.1, b"node")
    world.run_all()
    assert world.ask("forget", id="a") == {"id": "a", "forgotten": True}
    with pytest.raises(LookupError, match="no job"):
        world.ask("forget", id="a")
    world.restart()
    world.client()
    assert [job["id"] for job in world.ask("jobs")] == ["b"]


def test_old_results_are_swept(world: World) -> None:
    world.limits = Limits(keep_results=1_000.0, lease=1e6)
    world.restart()
    world.client()
    world.node()
    world.submit(1, "old")
    world.submit(1, "needed")
    world.submit(1, "heir", after=["needed"])
    world.run_all()
    world.ask("pause", id="heir")
    world.now += 900.0
    world.submit(1, "new")
    world.run_all()
    world.now += 200.0
    world.drain()
    assert {job["id"] for job in world.ask("jobs")} == {"needed", "heir", "new"}
    world.restart(after=800.0)
    world.client()
    assert {job["id"] for job in world.ask("jobs")} == {"needed", "heir", "new"}
    world.restart(after=200.0)
    world.client()
    assert {job["id"] for job in world.ask("jobs")} == {"needed", "heir"}


def test_what_failed_can_be_asked_for_in_parts(world: World) -> None:
    world.limits = Limits(page_bytes=8)
    world.restart()
    world.client()
    world.node()
    world.submit(5)
    with pytest.raises(LookupError, match="not over yet"):
        world.ask("failed", id="job")
    while given := world.assigned():
        said = [
            (b"node", world.result(i, n, status=Status.RAISED if i % 2 == 0 else Status.OK))
            for (_, i), (n, _) in given.items()
        ]
        world.drain(*said)
    first = world.ask("failed", id="job")
    assert first == {"indices": [0, 2], "bodies": [b"arg0", b"arg2"], "next": 4}
    rest = world.ask("failed", id="job", first=4)
    assert rest == {"indices": [4], "bodies": [b"arg4"], "next": None}


def test_output_is_kept(world: World) -> None:
    world.node()
    world.submit(1)
    world.drain((b"node", m.Output("job", 1, 0, "hello\n")))
    world.drain((b"node", m.Output("none", 1, 0, "nobody's")))
    world.restart()
    world.client()
    assert world.ask("output", id="job") == [{"index": 0, "attempt": 1, "text": "hello\n"}]
    with pytest.raises(LookupError, match="no job"):
        world.ask("output", id="none")


def test_a_full_journal_refuses_what_is_new_and_only_that(world: World) -> None:
    journal = world.journal = MemoryJournal(limit=100)
    world.restart()
    world.client()
    world.submit(2, closed=False)
    journal._limit = 0
    world.submit(2, closed=False)
    assert not world.take(b"client", m.Rejected), "a copy of what is here needs no room"
    world.submit(1, first=2)
    [rejected] = world.take(b"client", m.Rejected)
    assert "full" in rejected.reason
    world.node()
    assert world.run_all() == 2


@pytest.mark.parametrize("resident", [0, 100])
def test_spilled_payloads_are_the_same(resident: int) -> None:
    world = World(Limits(resident_bytes=resident, lease=1e6))
    world.client()
    world.submit(3_000, closed=False)
    world.submit(10, first=3_000)
    world.wait(0.1)
    assert world.core.book.resident <= resident + 100
    world.node(slots=50)
    seen = {}
    while given := world.assigned():
        seen |= {index: body for (_, index), (_, body) in given.items()}
        world.drain(*((b"node", world.result(i, n)) for (_, i), (n, _) in given.items()))
    assert seen == {index: b"arg%d" % index for index in range(3_010)}
    assert world.core.book.resident == 0


def test_spilling_in_the_drain_of_the_assignment() -> None:
    world = World(Limits(resident_bytes=0))
    world.client()
    world.node(slots=1)
    world.submit(3)
    assert world.run_all() == 3


def test_jobs_are_told_a_page_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands_broker.core.report.PAGE_JOBS", 4)
    world.node()
    for number in range(9):
        world.submit(job=f"{'ab'[number % 2]}{number}")
        if number < 6:
            world.assigned()
            world.drain((b"node", world.result(0, job=f"{'ab'[number % 2]}{number}")))
    pages = [[job["id"] for job in world.ask("jobs", skip=skip)] for skip in (0, 4, 8, 12)]
    assert [len(page) for page in pages] == [4, 4, 1, 0]
    assert {job for page in pages for job in page} == {f"{'ab'[n % 2]}{n}" for n in range(9)}
    assert {job["id"] for job in world.ask("jobs", begins="b")} == {"b1", "b3", "b5", "b7"}
    assert [job["id"] for job in world.ask("jobs", begins="a2")] == ["a2"]
    assert len(world.ask("jobs", limit=2)) == 2
    assert len(world.ask("jobs", limit=1_000)) == 4
    assert world.ask("jobs", skip=-3, limit=-1) == []


def test_jobs_that_are_over_are_forgotten_in_the_order_in_which_they_ended(world: World) -> None:
    world.node()
    for job in ("late", "early"):
        world.submit(job=job)
    world.assigned()
    world.drain((b"node", world.result(0, job="early")))
    world.wait(30.0, b"node")
    world.drain((b"node", world.result(0, job="late")))
    world.restart()
    assert list(world.core.book.kept) == ["early", "late"]
    middle = world.core.book.kept["late"]["ended"] - 1
    assert world.core.book.kept.ended_before(middle) == ["early"]


# Attached jobs: held by their clients, found on nodes


def attached(world: World, count: int, first: int = 0, *, closed: bool = False) -> None:
    world.submit(count, first=first, durable=False, closed=closed)


def test_an_orphan_is_adopted_when_its_client_submits_again(world: World) -> None:
    world.node()
    attached(world, 3)
    world.assigned()
    world.restart()
    span = m.Span("job", 1, [0, 1])
    assert world.node(holding=[span]) == [span]
    world.client(last_seq=1)
    attached(world, 3)
    world.wait(1.0, b"node")
    assert not world.assigned()
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, 0)]
    assert set(world.assigned()) == {("job", 2)}


def test_results_of_orphans_wait_for_every_part_of_the_submission(world: World) -> None:
    world.node()
    attached(world, 2)
    world.assigned()
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    both = m.ResultGroup("job", 1, [0, 1], bytes(2), [b"r0", b"r1"], 0.02)
    world.drain((b"node", m.Results(1, [both])))
    world.client()
    attached(world, 1)
    assert world.results() == [("job", 0, 0)]
    attached(world, 1, first=1, closed=True)
    assert world.results() == [("job", 1, 0)]
    world.wait(1.0, b"node")
    assert not world.assigned()


def test_an_orphan_stays_with_its_node_over_a_new_link(world: World) -> None:
    world.restart()
    span = m.Span("job", 1, [0, 1])
    world.node(holding=[span])
    world.drain((b"node", world.result(1)))
    hello = m.WorkerHello(1, "node", b"node".ljust(16, b"_"), 2, 100, [m.Span("job", 1, [0])], {})
    world.drain((b"node2", hello))
    assert world.take(b"node2", m.WorkerWelcome)[0].keep == [m.Span("job", 1, [0])]
    world.client()
    attached(world, 2)
    assert world.results() == [("job", 1, 0)]
    world.drain((b"node2", world.result(0)))
    assert world.results() == [("job", 0, 0)]


def test_an_orphan_that_was_given_back_runs_anew(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0])])
    world.drain((b"node", m.Returned([m.Span("job", 1, [0])])))
    world.client()
    attached(world, 1)
    world.wait(1.0, b"node")
    assert set(world.assigned()) == {("job", 0)}


def test_a_closing_that_follows_tasks_which_were_turned_down_does_not_close_the_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit(1, closed=False)
    with monkeypatch.context() as patch:
        patch.setattr(world.journal, "has_room", lambda nbytes: False)
        world.submit(1, first=1, closed=False)
        world.drain((b"client", m.Submit([m.SubmitGroup("job", FUNCTION, None, 2, True, [])])))
    assert [rejected.first for rejected in world.take(b"client", m.Rejected)] == [1, 2]
    answers = [
        [(job.job, job.tasks) for job in said.jobs] for said in world.take(b"client", m.Accepted)
    ]
    assert answers == [[("job", 1)]] * 3, "what there is of it is confirmed with every submission"
    world.submit(1, first=1)
    world.node()
    assert world.run_all() == 2


def test_a_result_of_an_attached_job_that_is_there_in_part_is_kept_for_the_rest(
    world: World,
) -> None:
    world.restart()
    world.client()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.submit(1, durable=False, closed=False)
    world.drain((b"node", world.result(1)))
    world.submit(1, first=1, durable=False)
    assert world.results() == [("job", 1, Status.OK)]
    world.drain((b"node", world.result(0)))
    assert world.results() == [("job", 0, Status.OK)]


def test_a_cancellation_of_an_earlier_broker_is_nobodys_wish_now(world: World) -> None:
    world.restart()
    world.client()
    world.node(holding=[m.Span("job", 1, [0])])
    world.submit(1, durable=False)
    world.drain((b"node", world.result(0, status=Status.CANCELLED)))
    assert world.run_all() == 1
    assert world.results() == [("job", 0, Status.OK)]


def test_an_orphan_whose_result_had_no_room_runs_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands_broker.core.orphans.MAX_BYTES", 3)
    world.restart()
    world.node(holding=[m.Span("job", 1, [0])])
    world.drain((b"node", world.result(0)))
    world.client()
    attached(world, 1)
    world.wait(1.0, b"node")
    assert set(world.assigned()) == {("job", 0)}


def test_an_orphan_that_ended_in_an_earlier_life_is_stopped(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.client()
    attached(world, 1, first=1)
    assert world.take(b"node", m.Cancel)[0].spans == [m.Span("job", 1, [0])]


def test_orphans_of_a_node_that_is_gone_run_elsewhere(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0, 1])])
    world.drain((b"node", world.result(0)), (b"node", m.Bye("")))
    world.client()
    world.node(b"other")
    attached(world, 2)
    world.wait(1.0, b"other")
    assert len(world.assigned(b"other")) == 2


def test_orphans_that_nobody_claims_are_stopped(world: World) -> None:
    world.restart()
    world.node(holding=[m.Span("job", 1, [0])])
    world.wait(world.limits.session_grace + 1, b"node")
    assert world.take(b"node", m.Cancel)[0].spans == [m.Span("job", 1, [0])]
    assert world.node(b"late", holding=[m.Span("job", 1, [7])]) == []


def test_many_large_results_in_one_drain_are_split(world: World) -> None:
    world.node(slots=600)
    attached(world, 600, closed=True)
    given = world.assigned()
    body = b"x" * 60_000
    said = [(b"node", world.result(i, n, body=body)) for (_, i), (n, _) in given.items()]
    world.drain(*said)
    messages = world.take(b"client", m.Results)
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    sizes = [sum(len(b) for g in message.groups for b in g.bodies) for message in messages]
    assert sum(sizes) == 600 * 60_000
    assert max(sizes) < 10 << 20


def test_a_session_that_began_afresh_does_not_end_with_the_grace_of_the_one_before(
    world: World,
) -> None:
    world.client(b"guest")
    world.drain()
    world.do(world.core.handle(LinkClosed(b"guest"), world.now))
    again = m.ClientHello(1, b"guest".ljust(16, b"."), "guest", 0, 0, {})
    world.drain((b"again", again), (b"again", m.Ping(1)))
    assert [w.resumed for w in world.take(b"again", m.ClientWelcome)] == [False]
    world.wait(world.limits.session_grace + 1)
    third = m.ClientHello(1, b"guest".ljust(16, b"."), "guest", 0, 0, {})
    world.drain((b"third", third))
    assert [w.resumed for w in world.take(b"third", m.ClientWelcome)] == [True]


@pytest.mark.parametrize("durable", [False, True])
def test_a_function_is_asked_for_again_on_a_new_link(world: World, durable: bool) -> None:
    lacking = m.Need(bytes([9]) * 16)
    options = {"durable": durable}
    group = m.SubmitGroup("job", lacking.digest, options, 0, True, [b"arg"])
    world.drain((b"client", m.Submit([group])))
    assert world.take(b"client", m.Need) == [lacking]
    hello = m.ClientHello(1, b"client".ljust(16, b"."), "client", 0, 0, {})
    world.drain((b"other link", hello))
    assert world.take(b"other link", m.Need) == [lacking]


def test_waiting_tasks_are_cancelled_by_the_chunk_and_those_that_have_ended_left_alone(
    world: World,
) -> None:
    world.node(slots=1)
    world.submit(3_000, durable=False)
    assigned = sorted(index for _, index in world.assigned())
    world.drain((b"node", world.result(0)))
    world.take(b"client", m.Results)
    world.drain((b"client", m.Cancel([m.Span("job", 0, list(range(3_000)))])))
    [cancel] = world.take(b"node", m.Cancel)
    [span] = cancel.spans
    held = [index for index in assigned if index] + [index for _, index in world.assigned()]
    assert span.indices == sorted(held)
    groups = [group for said in world.take(b"client", m.Results) for group in said.groups]
    assert len(groups) <= 4, "one for each run in a chunk, not one for each task"
    ended = [index for group in groups for index in group.indices]
    assert sorted(ended) == sorted(set(range(1, 3_000)) - set(held))
    assert {status for group in groups for status in group.statuses} == {Status.CANCELLED}
    world.core.validate()
