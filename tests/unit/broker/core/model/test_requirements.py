"""Nodes that are not alike: each gets only what it has the labels for."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.model.requirements import Kind
from manyhands_broker.core.queries.explain import standstill
from manyhands_broker.core.state import fleet
from manyhands_shared.protocol import labels
from manyhands_shared.protocol import messages as m


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
    world.drain((b"maker", m.Making(digest)))
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
    world.drain((b"maker", m.Making(b"")))
    world.submit(1, "last", needs=needs, requirements=["sums"], durable=False)
    assert list(world.assigned(b"maker")) == [("last", 0)]


def test_the_waiting_client_is_told_that_an_environment_is_made(world: World) -> None:
    digest = bytes(range(16))
    needs = ["pickle", labels.environment(digest)]
    world.node(b"maker", slots=4, labels=["pickle", labels.ENVIRONMENTS])
    world.submit(1, "job", needs=needs, requirements=["sums"], durable=False)
    session = next(iter(world.core.state.sessions.values()))
    assert standstill(world.core.state, session) == []
    world.drain((b"maker", m.Making(digest)))
    assert standstill(world.core.state, session) == [
        "node maker makes the environment that its tasks require"
    ]
    # Another of its jobs runs.
    world.submit(1, "plain", needs=["pickle"], durable=False)
    assert standstill(world.core.state, session) == []
