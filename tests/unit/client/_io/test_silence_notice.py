"""What a client says that waits and hears nothing: once, and again when the reason changes."""

from __future__ import annotations

import socket
from concurrent.futures import Future
from typing import Any

import pytest

from harness.processes import eventually
from harness.threads import no_thread_left
from manyhands import BrokerUnreachable, Client
from manyhands._io import io_thread
from manyhands._io.silence_notice import LONGEST_SECONDS, SILENCE_SECONDS, SilenceNotice


class Waiting:
    """A client with one task, and the broker's answers."""

    def __init__(self, address: str = "unix:///none") -> None:
        self.now = 0.0
        self.delivered = 0
        self.reasons: list[str] = []
        self.asked = 0
        self.said: list[str] = []
        self.notice = SilenceNotice(lambda: address, self._ask, self.said.append)

    def _ask(self, answer: Future[Any]) -> None:
        self.asked += 1
        answer.set_result(self.reasons)

    def turn(self, *, unended: int = 1, is_open: bool = True) -> None:
        self.notice.turn(self.now, unended=unended, delivered=self.delivered, is_open=is_open)

    def wait(self, seconds: float) -> None:
        """Turn whenever it wants to be turned."""
        end = self.now + seconds
        self.turn()
        while self.notice.deadline is not None and self.notice.deadline <= end:
            self.now = self.notice.deadline
            self.turn()
        self.now = end


def test_it_asks_when_no_result_has_come_for_a_while() -> None:
    client = Waiting()
    client.wait(SILENCE_SECONDS - 0.01)
    assert client.asked == 0
    client.delivered += 1
    client.wait(SILENCE_SECONDS - 0.01)
    assert client.asked == 0, "one has come"
    client.wait(SILENCE_SECONDS)
    assert client.asked == 1
    assert client.said == [], "the broker says that its tasks run"


def test_each_reason_is_told_once() -> None:
    client = Waiting()
    client.reasons = ["no node is connected", "and so on"]
    client.wait(600.0)
    text = "manyhands: nothing runs of 1 unfinished task: no node is connected; and so on\n"
    assert client.said == [text]
    assert client.asked < 600 / LONGEST_SECONDS + 8
    client.reasons = ["2 of 4 slots are busy"]
    client.wait(LONGEST_SECONDS)
    client.reasons = ["3 of 4 slots are busy"]
    client.wait(600.0)
    assert client.said[1:] == [
        text.replace("no node is connected; and so on", "2 of 4 slots are busy")
    ]
    client.delivered += 1
    client.wait(SILENCE_SECONDS)
    assert client.said[2:] == [
        text.replace("no node is connected; and so on", "3 of 4 slots are busy")
    ]


def test_without_tasks_there_is_nothing_to_ask() -> None:
    client = Waiting()
    client.turn(unended=0)
    assert client.notice.deadline is None


def test_a_broker_that_is_away_is_named_with_the_reason() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    client = Waiting(address)
    client.turn()
    client.now = SILENCE_SECONDS
    client.turn(is_open=False)
    eventually(lambda: client.said)
    [said] = client.said
    reason = "(the connection is refused: nothing listens there)"
    assert said == f"manyhands: no broker answers at {address} {reason}. This goes on trying\n"
    assert client.asked == 0


def test_who_connects_hears_soon_what_is_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(io_thread, "QUIET_SECONDS", 0.1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(BrokerUnreachable):
        Client(address, connect_timeout=1.0)
    errors = ""

    def told() -> bool:
        nonlocal errors
        errors += capsys.readouterr().err
        return bool(errors)

    eventually(told)
    assert errors == (
        f"manyhands: no broker answers yet at {address} (the connection is refused: nothing listens "
        "there); trying for 1 s\n"
    )


def test_without_a_time_it_gives_up_where_nothing_listens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Only a client that goes on trying would say so.
    for name, seconds in (("_FIRST", 0.0), ("_LAST", 60.0), ("QUIET", 0.1), ("CONNECT", 1.0)):
        monkeypatch.setattr(io_thread, f"{name}_SECONDS", seconds)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(BrokerUnreachable, match="nothing listens there"):
            Client(address, connect_timeout=None)
    assert capsys.readouterr().err == ""


def test_without_a_thread_it_looks_for_the_broker_the_next_time() -> None:
    waiting = Waiting()
    with no_thread_left():
        waiting.wait(SILENCE_SECONDS)
        waiting.turn(is_open=False)
        waiting.now = 1e3
        waiting.turn(is_open=False)
    assert waiting.said == []
    waiting.now = 2e3
    waiting.turn(is_open=False)
    eventually(lambda: waiting.said)
    assert waiting.said[0].startswith("manyhands: no broker answers at unix:///none")
