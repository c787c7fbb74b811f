"""The tables of the dashboard."""

from __future__ import annotations

import pytest

from harness.worlds.broker import World


def test_of_jobs_that_are_over_the_latest_are_shown_whether_durable_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("manyhands_broker.core.queries.views.MOST_JOBS", 4)
    world = World()
    world.client()
    world.node()
    for number in range(9):
        name = f"{'durable' if number % 3 == 2 else 'attached'} {number}"
        world.submit(job=name, durable=number % 3 == 2)
        world.assigned()
        world.now += 1.0
        world.drain((b"node", world.result(0, job=name)))
    shown = world.ask("view", view="jobs")["jobs"]
    assert list(shown) == ["durable 8", "attached 7", "attached 6", "durable 5"]
