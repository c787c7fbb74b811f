"""Several addresses, and names with several: in which order they are tried."""

from __future__ import annotations

import pytest

from manyhands_shared.errors import ConfigError
from manyhands_shared.transport.failover import Route


def no_names(host: str, _port: int) -> list[str]:
    raise AssertionError(f"{host} is no name")


def test_one_address_is_all_there_is() -> None:
    for text in ("tcp://10.0.0.1:1", "[::1]:5", "unix:///tmp/socket"):
        route = Route(text, no_names)
        assert not route.has_others
        assert route.current == route.current
    assert Route("[::1]:5", no_names).current == "tcp://[::1]:5"


def test_each_is_tried_in_turn_and_a_round_ends_with_a_pause() -> None:
    route = Route("10.0.0.1:1, tcp://[fe80::1]:2,10.0.0.3", no_names)
    assert str(route) == "tcp://10.0.0.1:1, tcp://[fe80::1]:2, tcp://10.0.0.3:7711"
    tried = []
    for _ in range(2):
        tried.append(route.current)
        assert route.failed()
        tried.append(route.current)
        assert route.failed()
        tried.append(route.current)
        assert not route.failed(), "ZeroMQ pauses first"
        assert route.current == tried[-1]
        assert route.failed()
    assert tried == 2 * ["tcp://10.0.0.1:1", "tcp://[fe80::1]:2", "tcp://10.0.0.3:7711"]


def test_a_name_stands_for_all_its_addresses_as_they_are_now() -> None:
    names = {"broker": ["10.0.0.1", "::2"], "new": []}
    route = Route("broker:5,new:6", lambda host, _port: names[host])
    assert route.current == "tcp://10.0.0.1:5"
    assert route.has_others
    assert route.failed()
    assert route.current == "tcp://[::2]:5"
    assert route.failed()
    assert route.current == "tcp://new:6", "it is not known yet, and ZeroMQ looks again"
    names["broker"] = ["10.0.0.9"]
    assert not route.failed()
    assert route.failed()
    assert route.current == "tcp://broker:5", "one address is ZeroMQ's to look up"


def test_a_list_with_something_else_in_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        Route("tcp://a:1,http://b:2")
    with pytest.raises(ConfigError, match="is not an address"):
        Route(",")
