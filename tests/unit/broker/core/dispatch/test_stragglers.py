"""Speculative execution: slow tasks at the end of a job run twice, and one answer counts."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import LIMITS, World
from manyhands_broker.core import LinkClosed
from manyhands_broker.core import records as r
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.failure import Failure
from manyhands_shared.protocol.messages import Status

#: Long enough for a task of 10 ms to be slow.
SLOW = LIMITS.speculate_floor + 2 * LIMITS.speculate_again


class Race(World):
    """A job of four tasks: three have ended, and task 3 is slow, on one node or on two."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.client()
        self.node(b"a", slots=4)
        self.submit(4, **{"speculative": True, "durable": False, **options})
        self.drain(*((b"a", self.result(index)) for index in range(3)))
        self.assigned(b"a")
        self.results()
        self.take(b"client", m.Accepted)

    def copy(self) -> None:
        """Task 3 runs on node ``a`` in attempt 1 and on node ``b`` in attempt 2."""
        self.node(b"b")
        self.wait(SLOW, b"a", b"b")
        assert self.assigned(b"b") == {("job", 3): (2, b"arg3")}

    def count(self, name: str) -> int:
        return int(self.ask("stats")["counters"].get(name, 0))

    def active(self) -> dict[str, int]:
        return {node["name"]: node["active"] for node in self.ask("nodes")}


@pytest.fixture
def race() -> Race:
    made = Race()
    made.copy()
    return made


def cancelled(world: World, peer: bytes) -> list[m.Span]:
    return [span for message in world.take(peer, m.Cancel) for span in message.spans]


# When


def test_a_slow_task_of_a_job_that_is_nearly_over_gets_a_copy_once() -> None:
    world = Race()
    world.node(b"b")
    world.wait(LIMITS.speculate_floor / 2, b"a", b"b")
    assert not world.assigned(b"b"), "not slow yet"
    world.wait(SLOW, b"a", b"b")
    assert world.assigned(b"b") == {("job", 3): (2, b"arg3")}
    world.node(b"c")
    world.wait(10 * SLOW, b"a", b"b", b"c")
    assert not world.assigned(b"c"), "a third run"
    assert world.count("tasks_speculated") == 1


def test_nothing_is_copied_unasked() -> None:
    world = Race(speculative=False)
    world.node(b"b")
    world.wait(20 * SLOW, b"a", b"b")
    assert not world.assigned(b"b")


def test_the_same_node_never_runs_both() -> None:
    world = Race()
    world.wait(20 * SLOW, b"a")
    assert not world.assigned(b"a")
    world.copy()


def test_slow_means_slower_than_its_like() -> None:
    world = World()
    world.client()
    world.node(b"a", slots=4)
    world.submit(4, speculative=True, durable=False)
    group = m.ResultGroup("job", 1, [0, 1, 2], bytes(3), [b"r"] * 3, 3 * 10.0)
    world.wait(10.0, b"a")
    world.drain((b"a", m.Results(1, [group])))
    world.node(b"b")
    world.wait(0.5 * 10.0 - 1.0, b"a", b"b")
    assert not world.assigned(b"b")
    world.wait(2.0, b"a", b"b")
    assert ("job", 3) in world.assigned(b"b")


def test_nothing_is_copied_while_most_of_the_job_runs() -> None:
    world = World()
    world.client()
    world.node(b"a", slots=4)
    world.node(b"b", slots=4)
    world.submit(4, speculative=True, durable=False)
    given = {**world.assigned(b"a"), **world.assigned(b"b")}
    world.drain((b"a", world.result(0)), (b"b", world.result(0)))
    world.wait(20 * SLOW, b"a", b"b")
    assert not (world.assigned(b"a").keys() | world.assigned(b"b").keys()) & given.keys()


def test_waiting_tasks_of_anybody_come_first() -> None:
    world = Race()
    world.node(b"b", slots=1)
    world.submit(5, "other", durable=False)
    world.assigned(b"a")
    [first] = world.assigned(b"b")
    world.wait(3 * SLOW, b"a", b"b")
    world.drain((b"b", world.result(first[1], job="other")))
    given = world.assigned(b"b")
    assert given
    assert {job for job, _ in given} == {"other"}
    world.drain(*((b"b", world.result(index, job="other")) for _, index in given))
    world.wait(SLOW, b"a", b"b")
    assert ("job", 3) in world.assigned(b"b")


@pytest.mark.parametrize("what", ["paused", "cancelled"])
def test_a_job_that_is_not_to_go_on_gets_no_copies(what: str) -> None:
    world = Race()
    world.ask(what.removesuffix("led").removesuffix("d"), id="job")
    world.node(b"b")
    world.wait(3 * SLOW, b"a", b"b")
    assert not world.assigned(b"b")


def test_a_client_runs_no_more_at_once_than_it_asked_for() -> None:
    world = World()
    world.drain((b"client", m.ClientHello(1, b"c" * 16, "c", 0, 1, {})))
    world.node(b"a", slots=1)
    world.node(b"b", slots=1)
    world.submit(4, speculative=True, durable=False)
    for _ in range(3):
        [(peer, given)] = [(peer, held) for peer in (b"a", b"b") if (held := world.assigned(peer))]
        [(_, index)] = given
        world.drain((peer, world.result(index)))
    world.wait(10 * SLOW, b"a", b"b")
    assert len(world.assigned(b"a")) + len(world.assigned(b"b")) == 1


def test_what_has_ended_a_process_runs_in_one_place_at_a_time() -> None:
    world = Race()
    world.drain((b"a", world.result(3, status=Status.CRASHED)))
    assert world.assigned(b"a") == {("job", 3): (2, b"arg3")}
    world.node(b"b")
    world.wait(20 * SLOW, b"a", b"b")
    assert not world.assigned(b"b")


def test_resources_are_what_a_copy_takes_too() -> None:
    world = Race(resources={"cpus": 1})
    world.node(b"small", resources={"cpus": 0.5})
    world.wait(5 * SLOW, b"a", b"small")
    assert not world.assigned(b"small")
    world.node(b"large", resources={"cpus": 4})
    world.wait(SLOW, b"a", b"small", b"large")
    [node] = [node for node in world.ask("nodes") if node["name"] == "large"]
    assert (len(world.assigned(b"large")), node["free"]["cpus"]) == (1, 3.0)
    world.drain((b"a", world.result(3)))
    [node] = [node for node in world.ask("nodes") if node["name"] == "large"]
    assert (node["active"], node["free"]["cpus"]) == (1, 3.0), "it is being stopped"
    # The node says what it has anew; what is being stopped counts all the same.
    world.core.state.fleet.by_name["large"].equip({"cpus": 6.0})
    world.drain((b"large", world.result(3, attempt=2, status=Status.CANCELLED)))
    [node] = [node for node in world.ask("nodes") if node["name"] == "large"]
    assert (node["active"], node["free"]["cpus"]) == (0, 6.0)


# One answer


@pytest.mark.parametrize(("winner", "loser"), [(b"a", b"b"), (b"b", b"a")])
def test_the_first_answer_counts_and_the_other_run_is_stopped(
    race: Race, winner: bytes, loser: bytes
) -> None:
    number = {b"a": 1, b"b": 2}
    race.drain((winner, race.result(3, attempt=number[winner])))
    assert race.results() == [("job", 3, Status.OK)]
    assert cancelled(race, loser) == [m.Span("job", number[loser], [3])]
    assert not cancelled(race, winner)
    assert race.active() == {"a": int(loser == b"a"), "b": int(loser == b"b")}, "its slot is taken"
    race.drain((loser, race.result(3, attempt=number[loser], status=Status.CANCELLED)))
    assert race.active() == {"a": 0, "b": 0}
    assert race.results() == []
    assert race.ask("job", id="job")["done"] == 4
    assert race.count("speculations_won") == (winner == b"b")
    assert race.count("stale_results") == 0
    assert race.count("tasks_done") == 4


def test_two_answers_at_once_are_one(race: Race) -> None:
    race.drain((b"b", race.result(3, attempt=2)), (b"a", race.result(3)))
    assert race.results() == [("job", 3, Status.OK)]
    assert race.active() == {"a": 0, "b": 0}
    assert race.count("stale_results") == 0
    assert race.count("tasks_done") == 4


def test_a_job_over_before_its_loser_has_stopped_is_over(race: Race) -> None:
    race.drain((b"client", m.Submit([m.SubmitGroup("job", bytes(16), None, 4, True, [])])))
    race.drain((b"b", race.result(3, attempt=2)))
    assert race.ask("job", id="job")["state"] == "done"
    assert race.ask("job", id="job")["speculated"] == 1
    race.wait(LIMITS.lease / 2, b"a", b"b")
    assert race.active() == {"a": 1, "b": 0}
    race.drain((b"a", m.Returned([m.Span("job", 1, [3])])))
    assert race.active() == {"a": 0, "b": 0}


def test_a_job_of_the_same_id_waits_until_the_loser_has_stopped(race: Race) -> None:
    race.drain((b"b", race.result(3, attempt=2)))
    race.client(b"other")
    race.submit(1, peer=b"other", durable=False)
    race.wait(2.0, b"a", b"b")
    assert not race.assigned(b"a")
    assert not race.assigned(b"b")
    race.wait(LIMITS.lease, b"a", b"b")
    assert race.assigned(b"a") or race.assigned(b"b")


# Failures


@pytest.mark.parametrize(("failing", "other"), [(b"a", b"b"), (b"b", b"a")])
@pytest.mark.parametrize("how", ["raises", "crashes", "returned", "lost", "cancelled", "relinked"])
def test_the_failure_of_one_is_not_the_tasks(
    race: Race, failing: bytes, other: bytes, how: str
) -> None:
    number = {b"a": 1, b"b": 2}
    attempt = number[failing]
    match how:
        case "returned":
            race.drain((failing, m.Returned([m.Span("job", attempt, [3])])))
        case "lost":
            race.drain((failing, m.Bye("gone")))
        case "relinked":
            race.core.handle(LinkClosed(failing), race.now)
            boot = failing.ljust(16, b"_")
            hello = m.WorkerHello(1, failing.decode(), boot, 4, 100, [], {})
            race.drain((b"new", hello))
        case _:
            status = {"raises": Status.RAISED, "crashes": Status.CRASHED}.get(how, Status.CANCELLED)
            race.drain((failing, race.result(3, attempt=attempt, status=status)))
    race.wait(3 * SLOW, b"a", b"b")
    assert race.results() == []
    assert not race.assigned(failing)
    assert not race.assigned(other)
    assert race.ask("job", id="job")["active"] == 1
    assert not race.active().get(failing.decode())
    race.drain((other, race.result(3, attempt=number[other])))
    assert race.results() == [("job", 3, Status.OK)]
    assert race.count("tasks_retried") == 0


def test_when_both_fail_the_task_has_failed_once() -> None:
    race = Race(retries=1, retry_delay=0.0)
    race.copy()
    race.drain((b"a", race.result(3, status=Status.RAISED)))
    race.drain((b"b", race.result(3, attempt=2, status=Status.RAISED)))
    assert race.count("tasks_retried") == 1
    race.wait(0.1, b"a", b"b")
    [(attempt, _)] = [*race.assigned(b"a").values(), *race.assigned(b"b").values()]
    assert attempt == 3
    assert race.results() == []


@pytest.mark.parametrize("first", [b"a", b"b"])
def test_numbers_of_attempts_are_never_given_out_twice(race: Race, first: bytes) -> None:
    last = b"b" if first == b"a" else b"a"
    race.drain((first, m.Bye("gone")))
    race.drain((last, m.Bye("gone")))
    race.node(b"c")
    assert race.assigned(b"c") == {("job", 3): (3, b"arg3")}
    # It is a task like any other again.
    race.node(b"d")
    race.wait(SLOW, b"c", b"d")
    assert race.assigned(b"d") == {("job", 3): (4, b"arg3")}


def test_each_death_is_blamed_and_the_limit_is_that_of_every_task(race: Race) -> None:
    died = Failure("manyhands.TaskCrashed", "it died").encode()
    race.drain((b"b", race.result(3, attempt=2, status=Status.CRASHED, body=died)))
    assert race.results() == []
    race.drain((b"a", race.result(3, status=Status.CRASHED, body=died)))
    assert race.results() == [("job", 3, Status.CRASHED)]
    assert race.count("child_deaths") == 2
    assert race.count("tasks_quarantined") == 1


def test_a_last_death_too_many_is_one_when_nothing_else_runs() -> None:
    race = Race(crash_limit=1)
    race.copy()
    race.drain((b"a", race.result(3, status=Status.CRASHED)))
    assert race.results() == []
    race.drain((b"b", race.result(3, attempt=2)))
    assert race.results() == [("job", 3, Status.OK)]


def test_a_node_that_dies_with_a_loser_takes_nothing_along(race: Race) -> None:
    race.drain((b"b", race.result(3, attempt=2)))
    race.drain((b"a", m.Bye("gone")))
    race.wait(1.0, b"b")
    assert race.active() == {"b": 0}
    assert not race.assigned(b"b")


def test_a_loser_that_was_being_stopped_when_its_link_broke_is_dropped_by_its_node(
    race: Race,
) -> None:
    race.drain((b"b", race.result(3, attempt=2)))
    race.core.handle(LinkClosed(b"a"), race.now)
    hello = m.WorkerHello(1, "a", b"a".ljust(16, b"_"), 4, 100, [m.Span("job", 1, [3])], {})
    race.drain((b"new", hello))
    [welcome] = race.take(b"new", m.WorkerWelcome)
    assert welcome.keep == []
    assert race.active() == {"a": 0, "b": 0}


def test_nodes_with_both_runs_may_change_their_links(race: Race) -> None:
    for name, number in ((b"a", 1), (b"b", 2)):
        race.core.handle(LinkClosed(name), race.now)
        span = m.Span("job", number, [3])
        hello = m.WorkerHello(1, name.decode(), name.ljust(16, b"_"), 4, 100, [span], {})
        race.drain((name + b"'", hello))
        [welcome] = race.take(name + b"'", m.WorkerWelcome)
        assert welcome.keep == [span]
    race.drain((b"a'", race.result(3)))
    assert race.results() == [("job", 3, Status.OK)]
    assert cancelled(race, b"b'") == [m.Span("job", 2, [3])]


# Cancelling, held results


@pytest.mark.parametrize("indices", [[3], []])
def test_cancelling_stops_both(race: Race, indices: list[int]) -> None:
    race.drain((b"client", m.Cancel([m.Span("job", 0, indices)])))
    assert cancelled(race, b"a") == [m.Span("job", 1, [3])]
    assert cancelled(race, b"b") == [m.Span("job", 2, [3])]
    race.drain((b"b", race.result(3, attempt=2, status=Status.CANCELLED)))
    assert race.results() == []
    race.drain((b"a", race.result(3, status=Status.CANCELLED)))
    assert race.results() == [("job", 3, Status.CANCELLED)]
    assert race.active() == {"a": 0, "b": 0}


@pytest.mark.parametrize(("winner", "loser"), [(b"a", b"b"), (b"b", b"a")])
def test_a_held_result_is_the_answer(winner: bytes, loser: bytes) -> None:
    race = Race(direct=True)
    race.copy()
    number = {b"a": 1, b"b": 2}
    held = race.result(3, attempt=number[winner], status=Status.HELD, body=b"ticket")
    race.drain((winner, held))
    assert race.results() == [("job", 3, Status.HELD)]
    assert cancelled(race, loser) == [m.Span("job", number[loser], [3])]
    # The other one has a result as well by then: that is let go of when the order to stop is there.
    other = race.result(3, attempt=number[loser], status=Status.HELD, body=b"ticket")
    race.drain((loser, other))
    assert not race.take(loser, m.Taken)
    race.drain((loser, race.result(3, attempt=number[loser], status=Status.CANCELLED)))
    assert race.results() == []
    race.drain((b"client", m.Taken([m.Span("job", number[winner], [3])])))
    assert race.results() == [("job", 3, Status.OK)]
    assert race.active() == {"a": 0, "b": 0}
    assert race.count("stale_results") == 0


def test_a_result_that_is_held_gets_no_copy() -> None:
    race = Race(direct=True)
    race.drain((b"a", race.result(3, status=Status.HELD, body=b"ticket")))
    race.node(b"b")
    race.wait(3 * SLOW, b"a", b"b")
    assert not race.assigned(b"b")


def test_a_held_result_whose_node_dies_is_made_again_under_a_new_number() -> None:
    race = Race(direct=True)
    race.copy()
    race.drain((b"a", race.result(3, status=Status.HELD, body=b"ticket")))
    race.drain((b"a", m.Bye("gone")))
    assert race.assigned(b"b") == {("job", 3): (3, b"arg3")}


# Restarts


@pytest.mark.parametrize("order", [(b"a", b"b"), (b"b", b"a")])
@pytest.mark.parametrize("durable", [False, True])
def test_after_a_restart_one_of_the_two_goes_on(durable: bool, order: tuple[bytes, bytes]) -> None:
    race = Race(durable=durable, closed=False)
    race.copy()
    number = {b"a": 1, b"b": 2}
    race.restart()
    welcome = [bool(race.node(name, [m.Span("job", number[name], [3])])) for name in order]
    race.client(last_seq=1)
    if durable:
        assert welcome == [True, False]
        owner = order[0]
        race.drain((b"client", m.Attach("job")))
    else:
        owner = b"b"
        # The later attempt is the one that is waited for.
        assert cancelled(race, b"a") == ([m.Span("job", 1, [3])] if order[0] == b"a" else [])
        race.submit(1, first=3, durable=False, speculative=True)
    loser = b"b" if owner == b"a" else b"a"
    race.drain((loser, race.result(3, attempt=number[loser])))
    assert ("job", 3, Status.OK) not in race.results()
    race.drain((owner, race.result(3, attempt=number[owner])))
    assert race.results().count(("job", 3, Status.OK)) == 1


def test_an_orphan_that_has_ended_gives_way_to_a_later_attempt() -> None:
    race = Race()
    race.copy()
    race.restart()
    race.node(b"a", [m.Span("job", 1, [3])])
    race.drain((b"a", race.result(3)))
    assert race.node(b"b", [m.Span("job", 2, [3])])
    assert not cancelled(race, b"a")
    race.client(last_seq=1)
    race.submit(1, first=3, durable=False)
    race.drain((b"b", race.result(3, attempt=2)))
    assert race.results() == [("job", 3, Status.OK)]
    assert not race.core._orphans._bytes


def test_the_journal_knows_of_the_attempts_that_are_gone() -> None:
    race = Race(durable=True)
    race.copy()
    race.records.clear()
    race.drain((b"a", m.Bye("gone")))
    assert race.records == [r.AttemptsStale("job", [3], 2)]
    race.drain((b"b", m.Bye("gone")))
    assert race.records[1:] == [r.AttemptsStale("job", [3], 3)]
    race.restart()
    assert race.node(b"b", [m.Span("job", 2, [3])]) == []


# What people see


def test_copies_are_told(race: Race) -> None:
    job = race.ask("job", id="job")
    assert (job["active"], job["copies"], job["speculated"]) == (1, 1, 1)
    assert "1 of them run on a second node as well" in race.ask("why", id="job")[1]
    assert race.ask("stats")["active"] == 2
    race.drain((b"a", race.result(3)))
    assert race.ask("stats")["counters"]["tasks_speculated"] == 1
