"""What is said of an address at which no broker answers: the cause, as the system knows it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.processes import free_port
from manyhands_shared.transport.reachability import reason_of_silence, silence, silence_of_all


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


def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    assert reason_of_silence("unix:///run/nothing", 1.0) == "there is no such socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        refused = reason_of_silence(f"unix://{tmp_path}/s", 1.0)
        server.listen()
        listens = reason_of_silence(f"unix://{tmp_path}/s", 1.0)
    assert "nothing listens there" in refused
    assert "something listens there" in listens


def test_nothing_is_said_of_all_if_one_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = f"tcp://127.0.0.1:{free_port()}"
        there = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert silence_of_all(f"{free},{there}", 5.0) == ""
    assert "nothing listens there" in silence_of_all(free, 5.0)


def test_each_of_several_addresses_has_its_reason() -> None:
    text = f"tcp://127.0.0.1:{free_port()},unix:///run/nothing"
    first, second = text.split(",")
    reasons = "the connection is refused: nothing listens there", "there is no such socket"
    said = silence(text, 1.0)
    assert said == f"{first} ({reasons[0]}); {second} ({reasons[1]})"
