"""Where the log of programs is, and that there is no coordinator before one is needed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from manyhands_broker import coordination_service
from manyhands_broker.core import ANYBODY, Core, Drained, Limits, LinkClosed, Received, Stalled
from manyhands_broker.journal import MemoryJournal
from manyhands_shared.config import BrokerConfig
from manyhands_shared.protocol import messages as m

TCP, UNIX = "tcp://127.0.0.1:7711", "unix://@manyhands-test"


@pytest.mark.parametrize(
    ("options", "bound", "runtime", "place"),
    [
        ({"coordination_dir": "/log", "journal": "/journal"}, [TCP], "/run", "/log"),
        ({"journal": "/journal"}, [TCP], "/run", "/journal/coordination"),
        ({}, [UNIX, TCP], "/run", "/run/manyhands/7711"),
        ({}, [UNIX], "/run", None),
        ({}, [TCP], "", None),
    ],
)
def test_where_the_log_is(
    options: dict[str, str],
    bound: list[str],
    runtime: str,
    place: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    found = coordination_service._directory(BrokerConfig(**options), bound)  # type: ignore[arg-type]
    assert found == (None if place is None else Path(place))


def test_there_is_no_coordinator_before_one_is_needed(tmp_path: Path) -> None:
    core = Core(Limits(), b"b" * 16, MemoryJournal(), time.monotonic())
    config = BrokerConfig(coordination_dir=str(tmp_path / "log"))
    with coordination_service.beside(core, config, b"b" * 16, [TCP]) as driver:
        driver.restore(0.0)
        for event in (Drained(), LinkClosed(b"p"), Stalled(1.0)):
            driver.take(event, 0.0)
        assert (driver.active, driver.figures()) == (False, {})
        driver.take(Received(b"p", m.Ping(1), ANYBODY), 1.0)
        assert (driver.active, driver.figures()["programs"]) == (True, 0)
        sent: list[m.Message] = []

        def send(_peer: bytes, message: m.Message) -> bool:
            sent.append(message)
            return True

        driver.finish(1.0, send, lambda _peer: None)
        assert sent == [m.Who(b"b" * 16)]
        assert driver.due(2.0) > 2.0
    assert not os.listdir(tmp_path)  # noqa: PTH208 - whether it is empty
