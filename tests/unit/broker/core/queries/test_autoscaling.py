"""How large a fleet the work at hand is worth."""

from __future__ import annotations

from typing import Any

import pytest

from manyhands_broker.core import Core, Drained, Limits, Received
from manyhands_broker.core.queries.autoscaling import summary
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.protocol import messages as m

FUNCTION = bytes(16)


class Cluster:
    """A core, one client, and nodes that do as the test says."""

    def __init__(self) -> None:
        self.core = Core(Limits(scale_within=60.0), b"x" * 16, MemoryJournal(), 0.0)
        self.now = 0.0
        self.jobs = 0
        self.say(b"c", m.ClientHello(1, b"t" * 16, "client", 0, 0, {}))
        self.say(b"c", m.Function(FUNCTION, "f", [b"code"]))

    def say(self, peer: bytes, message: m.Message) -> list[Any]:
        return [
            *self.core.handle(Received(peer, message), self.now),
            *self.core.handle(Drained(), self.now),
        ]

    def submit(self, tasks: int, peer: bytes = b"c", **options: Any) -> str:
        self.jobs += 1
        job = f"job-{self.jobs}"
        self.say(peer, m.Submit([m.SubmitGroup(job, FUNCTION, options, 0, True, [b"x"] * tasks)]))
        return job

    def node(self, name: str, slots: int, window: int = 100) -> list[m.AssignGroup]:
        """A node comes in; what it is given."""
        hello = m.WorkerHello(1, name, name.encode().ljust(16), slots, window, [], {})
        return [
            group
            for effect in self.say(name.encode(), hello)
            if isinstance(getattr(effect, "message", None), m.Assign)
            for group in effect.message.groups
        ]

    def report(self, name: str, groups: list[m.AssignGroup], seconds: float) -> None:
        """The node has run them, each in `seconds`."""
        self.now += seconds
        results = [
            m.ResultGroup(
                g.job,
                g.attempt,
                g.indices,
                bytes(len(g.indices)),
                [b"r"] * len(g.indices),
                seconds * len(g.indices),
            )
            for g in groups
        ]
        self.say(name.encode(), m.Results(1, results))

    @property
    def wanted(self) -> int:
        return int(summary(self.core.state)["slots_wanted"])


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_nothing_to_do_wants_nothing(cluster: Cluster) -> None:
    assert cluster.wanted == 0
    cluster.node("n", 4)
    assert summary(cluster.core.state)["slots_wanted"] == 0


def test_what_was_not_measured_wants_a_slot_each(cluster: Cluster) -> None:
    cluster.submit(7)
    assert cluster.wanted == 7


@pytest.mark.parametrize(("seconds", "wanted"), [(0.001, 1), (1.0, 17), (30.0, 500), (600.0, 999)])
def test_what_was_measured_wants_what_is_done_in_a_minute(
    cluster: Cluster, seconds: float, wanted: int
) -> None:
    cluster.submit(1_000)
    groups = cluster.node("n", 1)
    assert sum(len(group.indices) for group in groups) == 1
    cluster.say(b"n", m.Renew(1, 1, 0, []))  # it takes no more
    cluster.report("n", groups, seconds)
    assert cluster.wanted == pytest.approx(wanted, abs=1)


def test_what_may_not_run_counts_only_while_it_does(cluster: Cluster) -> None:
    job = cluster.submit(5)
    cluster.say(b"c", m.Query(1, "pause", {"id": job}))
    assert cluster.wanted == 0
    cluster.say(b"c", m.Query(2, "resume", {"id": job}))
    assert cluster.wanted == 5


def test_a_client_wants_no_more_than_it_runs_at_once(cluster: Cluster) -> None:
    cluster.say(b"d", m.ClientHello(1, b"u" * 16, "careful", 0, 3, {}))
    cluster.submit(100, b"d")
    cluster.submit(100, b"d")
    assert cluster.wanted == 3
    cluster.submit(2)
    assert cluster.wanted == 5


def test_tasks_that_take_more_cores_want_more_slots(cluster: Cluster) -> None:
    cluster.submit(3, resources={"cpus": 4})
    assert cluster.wanted == 12


def test_a_mixed_fleet_is_told_what_kind_of_node_is_wanted(cluster: Cluster) -> None:
    cluster.submit(5)
    cluster.submit(2, resources={"gpu": 1})
    cluster.say(b"d", m.ClientHello(1, b"u" * 16, "careful", 0, 4, {}))
    cluster.submit(20, b"d", resources={"gpu": 1})
    cluster.submit(20, b"d")
    assert summary(cluster.core.state)["wanted"] == [
        {"resources": {}, "labels": ["pickle"], "slots": 7},
        {"resources": {"gpu": 1.0}, "labels": ["pickle"], "slots": 4},
    ]
    assert cluster.wanted == 11


def test_many_jobs_cost_no_more_than_a_sample(cluster: Cluster) -> None:
    for _ in range(3_000):
        cluster.submit(2)
    assert cluster.wanted == 6_000


def test_slots_of_a_node_that_leaves_do_not_count(cluster: Cluster) -> None:
    cluster.node("stays", 2)
    cluster.node("leaves", 4)
    assert summary(cluster.core.state)["slots"] == 6
    cluster.say(b"c", m.Query(1, "drain", {"node": "leaves"}))
    seen = summary(cluster.core.state)
    assert (seen["slots"], seen["nodes"]["draining"]) == (2, 1)
