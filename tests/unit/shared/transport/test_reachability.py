"""What is said of an address at which no broker answers: the cause, as the system knows it."""

from __future__ import annotations

import socket

import pytest

from harness.processes import free_port
from manyhands_shared.transport.reachability import reason_of_silence, silence


def test_nothing_listens() -> None:
    reason = reason_of_silence(f"tcp://127.0.0.1:{free_port()}", 5.0)
    assert reason == "the connection is refused: nothing listens there"


def test_a_name_that_is_not_known() -> None:
    assert "the name broker.invalid is not known" in reason_of_silence(
        "tcp://broker.invalid:7711", 5.0
    )


@pytest.mark.parametrize(
    ("family", "host", "shown"),
    [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")],
)
def test_something_else_listens(family: socket.AddressFamily, host: str, shown: str) -> None:
    with socket.create_server((host, 0), family=family) as server:
        reason = reason_of_silence(f"tcp://{shown}:{server.getsockname()[1]}", 5.0)
    assert reason == "something listens there, but it does not answer as a broker does"


def test_a_full_backlog_is_no_answer() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        with socket.create_connection(address):  # the one that waits to be accepted
            reason = reason_of_silence(f"tcp://127.0.0.1:{address[1]}", 0.3)
    assert reason == "the connection is not answered; a firewall may drop it"


def test_a_path_has_no_more_to_say() -> None:
    assert reason_of_silence("unix:///run/nothing", 1.0) == ""


def test_each_of_several_addresses_has_its_reason() -> None:
    text = f"tcp://127.0.0.1:{free_port()},unix:///run/nothing"
    first, second = text.split(",")
    said = silence(text, 1.0)
    assert said == f"{first} (the connection is refused: nothing listens there); {second}"
