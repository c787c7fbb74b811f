"""Nodes that are not alike: each gets only what it has the labels for."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import World
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.requirements import Kind
from manyhands_broker.core.queries.explain import standstill
from manyhands_broker.core.state import fleet
from manyhands_shared.protocol import labels
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.status import Status


@pytest.fixture
def world() -> World:
    made = World()
    made.client()
    made.node(b"new", labels=["pickle", "python=3.13"], python="3.13.0")
    made.node(b"old", labels=["pickle", "python=3.11"], python="3.11.7")
    return made


def test_a_job_goes_where_its_needs_are_met(world: World) -> None:
    world.submit(8, "by-value", needs=["pickle", "python=3.11"], durable=False)
    assert not world.assigned(b"new")
    assert len(world.assigned(b"old")) >= 2
    world.submit(4, "by-reference", durable=False)
    assert world.assigned(b"new"), "the one that is free"


def test_a_node_that_says_nothing_of_labels_gets_everything(world: World) -> None:
    world.node(b"simple", slots=50)
    world.submit(40, needs=["whatever"], durable=False)
    assert len(world.assigned(b"simple")) == 40


def test_what_is_missing_is_told(world: World) -> None:
    world.submit(1, "job", needs=["pickle", "python=3.12"], durable=False)
    [why] = world.ask("why", id="job")
    assert "no node runs Python 3.12" in why
    assert "3.11.7 (1), 3.13.0 (1)" in why
    assert {node["name"]: node["lacks"] for node in world.ask("nodes")} == {
        "new": ["python=3.12"],
        "old": ["python=3.12"],
    }
    world.submit(1, "other", needs=["python=3.11", "python=3.13"], durable=False)
    [why] = world.ask("why", id="other")
    assert why == "no node has all that it needs: python=3.11, python=3.13"
    world.submit(1, "gpu", needs=["python=3.11"], resources={"gpu": 1}, durable=False)
    assert world.ask("why", id="gpu") == ["no node has what each task takes: gpu=1"]


def test_resources_count_only_where_the_labels_are(world: World) -> None:
    world.node(b"gpu", labels=["pickle", "python=3.13"], resources={"gpu": 1})
    world.submit(1, needs=["python=3.11"], resources={"gpu": 1}, durable=False)
    assert not world.assigned(b"gpu")
    world.node(b"both", labels=["python=3.11"], resources={"gpu": 1})
    world.drain()
    assert world.assigned(b"both")


def test_nothing_is_asked_back_for_a_node_that_could_not_run_it(world: World) -> None:
    # A measured job of short tasks: the node that can run it holds more than it has slots.
    needs = ["pickle", "python=3.11"]
    world.submit(1, "first", needs=needs, durable=False, closed=False)
    world.drain((b"old", world.result(0, job="first")))
    world.submit(10, "first", first=1, needs=needs, durable=False)
    assert len(world.assigned(b"old")) == 11
    world.wait(2.0, b"old", b"new")
    assert not world.take(b"old", m.Recall)
    # For one that could, it is.
    world.node(b"twin", labels=needs)
    world.wait(2.0, b"old", b"new", b"twin")
    assert world.take(b"old", m.Recall)


def test_kinds_that_give_way_are_sorted_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_KINDS", 2)
    for number in range(5):
        world.submit(1, f"job-{number}", needs=[f"label-{number}"], durable=False)
    world.node(b"all", labels=[f"label-{number}" for number in range(5)], slots=8)
    world.drain()
    assert len(world.assigned(b"all")) == 5


def test_labels_of_a_node() -> None:
    assert set(labels.of_node("3.1.0", safe=False)) == {
        *("pickle", "msgpack", "cloudpickle=3"),
        labels.python(),
    }
    assert set(labels.of_node("3.1.0", safe=True)) == {"msgpack", labels.python()}
    assert set(labels.by_value("3.1.0")) <= set(labels.of_node("3.0.9", safe=False))
    assert "label zone=a" in labels.lacking("zone=a")


def test_kinds_that_no_node_could_run_cost_nothing_until_one_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.client()
    for number in range(50):
        world.node(b"node%d" % number, labels=["pickle"])
    for number in range(60):
        world.submit(2, f"job{number}", needs=[f"label{number}"], durable=False)
    looked = []
    suits = Node.suits

    def counted(node: Node, kind: Kind) -> bool:
        looked.append(node.name)
        return suits(node, kind)

    monkeypatch.setattr(Node, "suits", counted)
    for _ in range(3):
        world.ask("stats")
    assert not looked
    assert len(world.core.state.fleet.unsatisfiable) == 60
    world.node(b"able", labels=["label7"])
    assert set(looked[:60]) == {"able"}, "none of the others is looked at again"
    assert {job for job, _ in world.assigned(b"able")} == {"job7"}


def test_with_more_kinds_than_are_kept_sorted_all_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "MAX_KINDS", 4)
    monkeypatch.setattr(fleet, "MAX_RENEWALS", 1)
    world = World()
    world.client()
    for number in range(5):
        world.node(b"node%d" % number, slots=2)
    for number in range(40):
        cpus = 0.5 + number / 100
        world.submit(1, f"job{number}", resources={"cpus": cpus}, durable=False)
    ran = sum(world.run_all(b"node%d" % number) for _ in range(20) for number in range(5))
    assert ran == 40


def test_jobs_that_are_over_are_forgotten_though_no_node_could_run_them() -> None:
    world = World()
    world.client()
    world.node(b"node", labels=["pickle"])
    world.submit(1, "waits", needs=["elsewhere"], durable=False)
    for number in range(30):
        world.submit(1, f"job{number}", needs=["nowhere"], durable=False)
        world.drain((b"client", m.Cancel([m.Span(f"job{number}", 0, [])])))
    world.wait(3.0, b"node")
    world.ask("stats")
    [kind] = world.core.state.ready._levels[0]
    assert kind.needs == {"elsewhere"}


def test_a_node_makes_an_environment_and_gets_no_tasks_for_it_meanwhile(world: World) -> None:
    digest = bytes(range(16))
    needs = ["pickle", labels.environment(digest)]
    world.submit(1, "job", needs=needs, requirements=["sums"], durable=False)
    [why] = world.ask("why", id="job")
    assert why.startswith(
        "no node makes the environment that its tasks require: each is a safe one"
    )
    assert [node["lacks"] for node in world.ask("nodes")] == [needs[1:], needs[1:]]
    world.node(b"maker", slots=2, labels=["pickle", labels.ENVIRONMENTS])
    assert list(world.assigned(b"maker")) == [("job", 0)]
    world.drain((b"maker", m.Making(digest, b"")))
    sentence = "node maker makes the environment that its tasks require"
    assert world.ask("why", id="job") == ["1 task on nodes; none waits for one", sentence]
    # What it has given back, and more of it, waits. Others do not.
    world.drain((b"maker", m.Returned([m.Span("job", 1, [0])])))
    world.submit(3, "more", needs=needs, requirements=["sums"], durable=False)
    assert world.ask("why", id="job") == world.ask("why", id="more") == [sentence]
    world.submit(1, "plain", needs=["pickle", labels.ENVIRONMENTS], durable=False)
    assert list(world.assigned(b"maker")) == [("plain", 0)]
    # With another that makes none, they go there.
    world.node(b"other", slots=4, labels=["pickle", labels.ENVIRONMENTS])
    assert len(world.assigned(b"other")) == 4
    world.drain((b"maker", NOTHING))
    world.submit(1, "last", needs=needs, requirements=["sums"], durable=False)
    assert list(world.assigned(b"maker")) == [("last", 0)]


ENVIRONMENT = bytes(range(16))
NEEDS: dict[str, Any] = {
    "needs": ["pickle", labels.environment(ENVIRONMENT)],
    "requirements": ["sums"],
    "durable": False,
}
MAKES, FAILS, NOTHING = m.Making(ENVIRONMENT, b""), m.Making(b"", ENVIRONMENT), m.Making(b"", b"")


def makers(*names: bytes) -> World:
    made = World()
    made.client()
    for name in names:
        made.node(name, labels=["pickle", labels.ENVIRONMENTS])
    return made


def fail(world: World, peer: bytes, attempt: int = 1) -> None:
    """Have a node fail the task, for it cannot make the environment."""
    assert world.assigned(peer) == {("job", 0): (attempt, b"arg0")}
    world.drain((peer, FAILS), (peer, world.result(0, attempt, status=Status.RAISED)))


@pytest.mark.parametrize("resources", [{}, {"cpus": 1}])
def test_a_task_goes_elsewhere_whose_environment_cannot_be_made(resources: dict[str, int]) -> None:
    world = makers(b"bad", b"good")
    world.submit(1, **NEEDS, resources=resources)
    fail(world, b"bad")
    assert world.results() == []
    assert world.assigned(b"good") == {("job", 0): (2, b"arg0")}
    # What comes next waits for that node, though the other one has nothing to do.
    world.submit(40, "more", **NEEDS, resources=resources)
    assert world.assigned(b"good")
    assert not world.assigned(b"bad")
    sentence = (
        "node bad could not make the environment that its tasks require; the log there says why"
    )
    assert sentence in world.ask("why", id="more")
    world.drain((b"good", world.result(0, 2)))
    assert world.results() == [("job", 0, Status.OK)]
    assert not world.assigned(b"bad")
    # It may be otherwise by now.
    world.drain((b"bad", NOTHING))
    assert world.assigned(b"bad")


@pytest.mark.parametrize("resources", [{}, {"cpus": 1}])
def test_a_task_fails_whose_environment_no_node_can_make(resources: dict[str, int]) -> None:
    world = makers(b"one", b"two")
    world.submit(1, **NEEDS, resources=resources)
    fail(world, b"one")
    fail(world, b"two", 2)
    assert world.results() == [("job", 0, Status.RAISED)]
    # Nor do others wait: nodes have the reason.
    world.submit(1, "more", **NEEDS, resources=resources)
    assert world.assigned(b"one") or world.assigned(b"two")


def test_a_node_that_is_gone_makes_none() -> None:
    world = makers(b"one", b"two")
    world.submit(1, **NEEDS)
    fail(world, b"one")
    world.drain((b"two", m.Bye("it leaves")))
    fail(world, b"one", 3)
    assert world.results() == [("job", 0, Status.RAISED)]


def test_three_nodes_that_fail_are_enough() -> None:
    world = makers(b"one", b"two", b"three", b"four")
    world.submit(1, **NEEDS)
    for attempt, name in enumerate((b"one", b"two", b"three"), 1):
        assert world.results() == []
        fail(world, name, attempt)
    assert world.results() == [("job", 0, Status.RAISED)]
    assert not world.assigned(b"four")


def test_many_nodes_may_fail_where_a_task_ran_in_the_environment() -> None:
    names = [b"one", b"two", b"three", b"four"]
    world = makers(*names)
    world.submit(2, **NEEDS)
    holders = {index: name for name in names for _, index in world.assigned(name)}
    world.drain((holders[1], world.result(1)))
    assert world.results() == [("job", 1, Status.OK)]
    holder = holders[0]
    for attempt in (1, 2, 3):
        world.drain((holder, FAILS), (holder, world.result(0, attempt, status=Status.RAISED)))
        names.remove(holder)
        [holder] = [name for name in names if world.assigned(name)]
    assert world.results() == []


def test_no_task_is_brought_to_its_data_where_its_environment_failed() -> None:
    world = makers(b"bad", b"good")
    world.submit(1, **NEEDS)
    fleet, job = world.core.state.fleet, world.core.state.jobs["job"]
    bad = fleet.by_name["bad"]
    assert fleet.accepts(bad, job)
    world.drain((b"bad", FAILS))
    assert not fleet.accepts(bad, job)


@pytest.mark.parametrize("resources", [{}, {"cpus": 1}])
def test_what_waits_for_an_environment_goes_where_it_is(resources: dict[str, int]) -> None:
    world = makers(b"slow")
    world.submit(2, **NEEDS, resources=resources)
    assert len(world.assigned(b"slow")) == 2
    world.drain((b"slow", MAKES))
    # One that would have to make it, too, is no better.
    world.node(b"new", labels=["pickle", labels.ENVIRONMENTS])
    world.wait(3.0, b"slow", b"new")
    assert not world.take(b"slow", m.Recall)
    world.drain((b"new", MAKES))
    world.drain((b"new", NOTHING))
    world.wait(3.0, b"slow", b"new")
    assert world.take(b"slow", m.Recall) == [m.Recall(2)]
    world.drain((b"slow", m.Returned([m.Span("job", 1, [0, 1])])))
    assert world.assigned(b"new") == {("job", 0): (2, b"arg0"), ("job", 1): (2, b"arg1")}


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        # It has made another since: it has both.
        ([MAKES, m.Making(bytes(16), b""), NOTHING], [m.Recall(1)]),
        # It makes it again, for it has removed it, and could not a while ago.
        ([MAKES, NOTHING, MAKES], []),
        ([MAKES, NOTHING, MAKES, FAILS, NOTHING], []),
    ],
)
def test_what_a_node_has_made_counts_until_it_makes_it_again(
    told: list[m.Making], asked: list[m.Recall]
) -> None:
    world = makers(b"slow")
    world.submit(1, **NEEDS)
    world.drain((b"slow", MAKES))
    world.node(b"new", labels=["pickle", labels.ENVIRONMENTS])
    for message in told:
        world.drain((b"new", message))
    world.wait(3.0, b"slow", b"new")
    assert world.take(b"slow", m.Recall) == asked


def test_what_waits_is_not_asked_for_where_the_environment_failed() -> None:
    world = makers(b"slow", b"bad")
    world.submit(1, **NEEDS)
    world.drain((b"slow", MAKES), (b"bad", MAKES))
    world.drain((b"bad", FAILS))
    world.wait(3.0, b"slow", b"bad")
    assert not world.take(b"slow", m.Recall)


def test_a_failure_of_a_task_itself_is_final() -> None:
    world = makers(b"bad", b"good")
    world.submit(1, **NEEDS)
    world.assigned(b"bad")
    world.drain((b"bad", world.result(0, status=Status.RAISED)))
    assert world.results() == [("job", 0, Status.RAISED)]


def test_a_task_that_is_cancelled_goes_nowhere() -> None:
    world = makers(b"bad", b"good")
    world.submit(1, **NEEDS)
    world.drain((b"client", m.Cancel([m.Span("job", 0, [0])])))
    fail(world, b"bad")
    assert [status for _, _, status in world.results()] == [Status.RAISED]
    assert not world.assigned(b"good")


def test_the_waiting_client_is_told_that_an_environment_is_made(world: World) -> None:
    digest = bytes(range(16))
    needs = ["pickle", labels.environment(digest)]
    world.node(b"maker", slots=4, labels=["pickle", labels.ENVIRONMENTS])
    world.submit(1, "job", needs=needs, requirements=["sums"], durable=False)
    session = next(iter(world.core.state.sessions.values()))
    assert standstill(world.core.state, session) == []
    world.drain((b"maker", m.Making(digest, b"")))
    assert standstill(world.core.state, session) == [
        "node maker makes the environment that its tasks require"
    ]
    # Another of its jobs runs.
    world.submit(1, "plain", needs=["pickle"], durable=False)
    assert standstill(world.core.state, session) == []
