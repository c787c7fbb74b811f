"""Where the log of programs is, and that there is no coordinator before one is needed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from manyhands_broker import coordination_service
from manyhands_broker.coordination_driver import CoordinationDriver
from manyhands_broker.core import ANYBODY, Core, Drained, Limits, LinkClosed, Received, Stalled
from manyhands_broker.journal import MemoryJournal
from manyhands_broker.loop import Loop
from manyhands_broker.poller import Poller
from manyhands_broker.ports.base import Port, Take
from manyhands_shared.clock import SteppedClock
from manyhands_shared.config import BrokerConfig
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c

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


class Mail(Port):
    """A port that brings what the test puts into it, unless it is paused."""

    def __init__(self) -> None:
        self.inbox: list[m.Message] = []
        self.sent: list[m.Message] = []
        self.paused = False

    def due(self, now: float) -> float:
        """Never."""
        return 1e9

    def receive(self, ready: object, now: float, take: Take) -> None:
        """Hand over what is there."""
        while self.inbox and not self.paused:
            take(Received(b"agent", self.inbox.pop(0), ANYBODY))

    def send(self, peer: bytes, message: m.Message) -> bool:
        """Keep it."""
        self.sent.append(message)
        return True

    def pause(self, *, on: bool) -> None:
        """Read nothing, or again."""
        self.paused = on

    def close(self) -> None:
        """Do nothing."""


def test_a_pause_for_want_of_room_costs_no_host_its_lease() -> None:
    clock, port, journal = SteppedClock(100.0), Mail(), MemoryJournal()
    core = Core(Limits(), b"b" * 16, journal, clock())
    with coordination_service.beside(core, BrokerConfig(), b"b" * 16, [UNIX]) as driver:
        loop = Loop(
            core, journal, clock, Poller(), [port], heartbeats=lambda _: None, coordination=driver
        )
        hello = c.AgentHello(1, "h", "", bytes(16), b"a" * 16, "", 0, [], b"", {})
        port.inbox += [hello, c.Program(b"P" * 16, b"R" * 16, "h", bytes(32), {})]
        loop._turn({}, clock())
        assert [type(one) for one in port.sent] == [c.AgentWelcome, c.Placed]
        loop._pause(on=True)
        for _ in range(10):
            clock.advance(10.0)
            loop._turn({}, clock())
        loop._pause(on=False)
        clock.advance(1.0)
        loop._turn({}, clock())
        assert _agents(driver) == 1
        # Silence of its own does.
        for _ in range(10):
            clock.advance(10.0)
            loop._turn({}, clock())
        assert _agents(driver) == 0


def _agents(driver: CoordinationDriver) -> int:
    count = driver.figures()["host_agents"]
    assert isinstance(count, int)
    return count
