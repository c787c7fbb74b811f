"""On which host a process is started: fewest members a core, then pressure, then by turns."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.worlds.coordinator import AgentsWorld
from manyhands_broker.coordination.members.placing import Placing
from manyhands_broker.core.model.machine import LOAD, MEMORY
from manyhands_broker.core.state.fleet import MAX_CHANGED_HOSTS


def chosen(world: AgentsWorld, placing: Placing, count: int, **options: object) -> list[str]:
    """Place some processes; return their hosts."""
    hosts = []
    for _ in range(count):
        host, error = placing.choose(options)
        assert not error
        placing.count(host, 1)
        hosts.append(host)
    return hosts


@pytest.fixture
def world() -> AgentsWorld:
    """Two hosts."""
    return AgentsWorld()


def placing_of(world: AgentsWorld) -> Placing:
    return Placing(world.fleet, 1_000)


def test_two_hosts_get_every_other_one(world: AgentsWorld) -> None:
    assert chosen(world, placing_of(world), 6) == ["a", "b"] * 3


def test_between_equal_hosts_the_id_decides_however_often_they_have_changed(
    world: AgentsWorld,
) -> None:
    placing = placing_of(world)
    for _ in range(3):
        world.fleet.host_changed("a")
        placing.choose({"near": "b"})
    assert chosen(world, placing, 2) == ["a", "b"]


def test_two_hosts_get_every_other_one_when_each_ends_before_the_next(world: AgentsWorld) -> None:
    placing, hosts = placing_of(world), []
    for _ in range(6):
        [host] = chosen(world, placing, 1)
        placing.count(host, -1)
        hosts.append(host)
    assert hosts in (["a", "b"] * 3, ["b", "a"] * 3)


def test_a_host_with_more_cores_gets_more(world: AgentsWorld) -> None:
    world.add_node("big", cores=4)
    assert Counter(chosen(world, placing_of(world), 12)) == {"big": 8, "a": 2, "b": 2}


@pytest.mark.parametrize("pressure", [LOAD, MEMORY])
def test_of_equal_hosts_one_under_pressure_comes_last(world: AgentsWorld, pressure: str) -> None:
    placing = placing_of(world)
    world.fleet.by_name["node-a"].pressure = pressure
    world.fleet.host_changed("a")
    assert chosen(world, placing, 2) == ["b", "a"]


def test_a_process_goes_where_it_must(world: AgentsWorld) -> None:
    placing = placing_of(world)
    assert chosen(world, placing, 3, near="b") == ["b"] * 3
    assert chosen(world, placing, 1, node="node-b") == ["b"]
    assert chosen(world, placing, 1, node="machine-b") == ["b"]


def test_where_it_must_go_and_cannot_is_said(world: AgentsWorld) -> None:
    placing = placing_of(world)
    bound = "an open socket (UDP 127.0.0.1:8003)"
    host, error = placing.choose({"near": "laptop", "bound": bound})
    assert host == ""
    assert error.startswith(f"it holds {bound} and must run on this host, but no node")
    assert "manyhands worker" in error
    assert "no node or host" in placing.choose({"node": "nowhere"})[1]


def test_labels_are_met(world: AgentsWorld) -> None:
    world.add_node("c", labels=("pickle", "python=3.13"))
    placing = placing_of(world)
    assert chosen(world, placing, 2, needs=["python=3.13"]) == ["c", "c"]
    assert "python=2.7" in placing.choose({"needs": ["python=2.7"]})[1]


def test_a_full_host_gets_no_more(world: AgentsWorld) -> None:
    world.add_node("c", processes=1)
    placing = placing_of(world)
    assert Counter(chosen(world, placing, 7)) == {"a": 3, "b": 3, "c": 1}
    for host in "ab":
        world.fleet.remove(world.fleet.by_name[f"node-{host}"])
    assert "add hosts" in placing.choose({})[1]
    assert "the most it takes" in placing.choose({"near": "c"})[1]
    placing.count("c", -1)
    assert placing.choose({})[0] == "c"


def test_a_draining_node_and_one_without_agents_get_nothing(world: AgentsWorld) -> None:
    node = world.fleet.by_name["node-a"]
    node.draining = True
    world.fleet.update(node)
    world.add_node("safe", agent="")
    placing = placing_of(world)
    assert chosen(world, placing, 2) == ["b", "b"]
    world.fleet.remove(world.fleet.by_name["node-b"])
    assert "manyhands worker" in placing.choose({})[1]
    # Back from the drain.
    node.draining = False
    world.fleet.update(node)
    assert chosen(world, placing, 1) == ["a"]


def test_choosing_looks_at_few_of_many_hosts() -> None:
    world = AgentsWorld(hosts=())
    for number in range(300):
        world.add_node(f"h{number}", cores=1 + number % 4)
    placing = placing_of(world)
    hosts = chosen(world, placing, 1)
    looked = 0

    class Counted(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            nonlocal looked
            looked += 1
            return super().get(key, default)

    placing._hosts = Counted(placing._hosts)  # type: ignore[assignment]
    for _ in range(1_000):
        hosts += chosen(world, placing, 1)
        placing.count(hosts.pop(0), -1)
    # What is stale is skipped once: each change of a host makes one entry stale.
    assert looked < 8 * 1_000
    assert max(map(len, placing._heaps.values())) < 5 * 300 + 100


def come_and_go(world: AgentsWorld, count: int) -> None:
    for number in range(count):
        world.add_node(f"brief-{number}")
        world.fleet.remove(world.fleet.by_name[f"node-brief-{number}"])


def test_hosts_that_are_gone_leave_nothing_where_no_process_is_placed(world: AgentsWorld) -> None:
    come_and_go(world, 20)
    assert world.fleet.take_changed_hosts() is None
    come_and_go(world, MAX_CHANGED_HOSTS)
    assert len(world.fleet.take_changed_hosts() or ()) == MAX_CHANGED_HOSTS
    come_and_go(world, MAX_CHANGED_HOSTS + 1)
    assert world.fleet.take_changed_hosts() is None


def test_hosts_are_right_behind_more_changes_than_are_noted(world: AgentsWorld) -> None:
    placing = placing_of(world)
    assert chosen(world, placing, 2) == ["a", "b"]
    world.fleet.remove(world.fleet.by_name["node-a"])
    world.add_node("c")
    come_and_go(world, MAX_CHANGED_HOSTS + 1)
    assert chosen(world, placing, 2) == ["c", "b"]
