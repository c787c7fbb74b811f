"""A link over a Unix socket, in time that the test steps."""

from __future__ import annotations

from pathlib import Path

from manyhands_shared.transport.link.unix import UnixLink


def test_a_broker_that_is_away_is_looked_for_at_least_twice_a_second(tmp_path: Path) -> None:
    link = UnixLink(f"unix://{tmp_path / 'nothing'}")
    now = link.deadline
    pauses: list[float] = []
    for _ in range(30):
        assert now is not None
        assert link.event(now) is None
        assert link.deadline is not None
        pauses.append(link.deadline - now)
        assert link.event(link.deadline - 1e-6) is None, "it looks when it is due"
        now = link.deadline
    link.close()
    assert pauses[0] <= 0.02
    assert 0.25 <= max(pauses) <= 0.5
