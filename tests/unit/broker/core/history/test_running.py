"""What runs on nodes just now: as they say it, no more than they may say, of their own jobs alone."""

from __future__ import annotations

from typing import Any

import pytest

from harness.worlds.broker import World
from manyhands_broker.core.history import running
from manyhands_broker.core.queries.answers import Reader
from manyhands_broker.core.queries.views import stream
from manyhands_shared.protocol import messages as m


def runs(*slots: int, job: str = "job", ago: int = 2_000_000) -> m.Ran:
    figures = [figure for n in slots for figure in (n, 1, n, ago, ago, 0, 1_024, *[0] * 4)]
    return m.Ran([], [m.RunGroup(job, 1, figures)])


def shown(world: World) -> dict[str, list[Any]]:
    found = stream(world.core.state, {}, Reader("", commands=True))["running"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def world() -> World:
    world = World()
    world.client()
    world.node()
    world.submit(1)
    return world


def test_what_runs_is_shown_as_the_node_said_last(world: World) -> None:
    world.drain((b"node", runs(0, 1)))
    begun = world.now - 2.0 + 1e6
    function = shown(world)["0 node"][1]
    assert shown(world) == {
        f"{n} node": ["job", function, "node", n, 1, n, pytest.approx(begun, abs=0.06)]
        for n in (0, 1)
    }
    world.drain((b"node", runs(1)))
    assert list(shown(world)) == ["1 node"]
    world.drain((b"node", m.Ran([], [])))
    assert shown(world) == {}


def test_nothing_runs_of_jobs_that_are_over_or_that_the_node_has_nothing_of(world: World) -> None:
    world.submit(1, job="other")
    world.core.state.jobs["other"].known_by.clear()
    for job in ("other", "unknown"):
        world.drain((b"node", runs(0, job=job)))
        assert shown(world) == {}
    world.drain((b"node", runs(0)))
    assert list(shown(world)) == ["0 node"]
    world.drain((b"node", world.result(0)))
    assert shown(world) == {}


def test_a_node_that_says_more_than_it_may_is_not_believed(world: World) -> None:
    world.drain((b"node", runs(*range(m.MAX_RUNNING + 1))))
    assert shown(world) == {}
    world.drain((b"node", m.Ran([], [m.RunGroup("job", 1, [1, 2, 3])])))
    assert shown(world) == {}


def test_of_very_many_those_of_the_first_nodes_are_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MOST", 3)
    world.drain((b"node", runs(0, 1, 2, 3, 4)))
    assert list(shown(world)) == ["0 node", "1 node", "2 node"]
