"""A node whose broker does not answer says so once, with the cause, and again at the next outage."""

from __future__ import annotations

import logging
import threading

import pytest

from harness.processes import free_port
from manyhands_shared.transport.failover import Route
from manyhands_worker.broker_link import SilenceNotice


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    for thread in threading.enumerate():
        if thread.name == "manyhands-silence":
            thread.join(100)
    return [record.getMessage() for record in caplog.records]


def test_it_is_told_once_for_each_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "manyhands.worker")
    address = f"tcp://127.0.0.1:{free_port()}"
    notice = SilenceNotice(Route(address))
    notice.turn(0.0, is_served=False)
    notice.turn(1.9, is_served=False)
    assert told(caplog) == []
    for now in (2.0, 3.0, 60.0):
        notice.turn(now, is_served=False)
    line = (
        f"no broker has let this node in yet at {address} "
        "(the connection is refused: nothing listens there). It goes on trying"
    )
    assert told(caplog) == [line]
    notice.turn(61.0, is_served=True)
    notice.turn(70.0, is_served=False)
    notice.turn(71.0, is_served=True)
    assert told(caplog) == [line], "too short to speak of"
    for now in (80.0, 82.0, 83.0):
        notice.turn(now, is_served=False)
    assert told(caplog) == [line, line]
