"""Addresses: one full form, and which of them only this machine can reach."""

from __future__ import annotations

import pytest

from manyhands_shared.errors import ConfigError
from manyhands_shared.transport import address


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ("host", "tcp://host:7711"),
        ("host:99", "tcp://host:99"),
        (" tcp://host:99 ", "tcp://host:99"),
        ("tcp://host", "tcp://host:7711"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://*:7711", "tcp://*:7711"),
        ("[::1]:5", "tcp://[::1]:5"),
        ("tcp://[::1]", "tcp://[::1]:7711"),
        ("unix:///tmp/socket", "unix:///tmp/socket"),
        ("tcp://b\u00fccher.example:1", "tcp://xn--bcher-kva.example:1"),
        ("b\u00fccher.example", "tcp://xn--bcher-kva.example:7711"),
    ],
)
def test_the_full_form(given: str, full: str) -> None:
    assert address.parse(given) == full
    assert address.parse(full) == full


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "udp://host:1",
        "http://host:1",
        "tcp://",
        "unix://",
        "tcp://host:port",
        "tcp://host:65536",
        "tcp://host:-1",
        "tcp://:7711",
        "tcp://host:1/path",
        "tcp://user@host:1",
        "tcp://ho st:1",
        "tcp://[::1:5",
        "host:1?query",
        f"tcp://{'x' * 64}:1",
        "tcp://\u00fc..example",
    ],
)
def test_what_is_no_address_is_refused_with_a_next_step(given: str) -> None:
    with pytest.raises(ConfigError, match="write tcp://HOST:PORT"):
        address.parse(given)


@pytest.mark.parametrize(
    ("given", "local"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.9.9.9:1", True),
        ("localhost", True),
        ("tcp://[::1]:1", True),
        ("unix:///tmp/socket", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://*:1", False),
        ("tcp://[::]:1", False),
        ("tcp://192.168.0.1:1", False),
        ("tcp://example.org:1", False),
        ("tcp://localhost.example.org:1", False),
    ],
)
def test_which_are_local(given: str, local: bool) -> None:
    assert address.is_local(given) is local


def test_the_host_part() -> None:
    assert address.host_of("tcp://host:1") == "host"
    assert address.host_of("tcp://[::1]:1") == "::1"
    assert address.host_of("unix:///tmp/socket") == ""
