"""What can be said of a node with nothing but its own key, which may ask the broker nothing."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

import psutil

from manyhands.cli import _settings as settings
from manyhands.cli._errors import JobFailed
from manyhands_shared.config import ClientConfig
from manyhands_shared.errors import BrokerUnreachable
from manyhands_shared.security.role_key import RoleKey, credentials, load
from manyhands_shared.transport.address import DEFAULT_BIND, host_of
from manyhands_shared.transport.failover import Route
from manyhands_shared.transport.link.connector import Connector, Up

_POLL_SECONDS = 0.1


def is_all(key_file: str) -> bool:
    """Whether the key that was given is a worker's."""
    if not key_file:
        return False
    key = load(Path(key_file))
    return isinstance(key, RoleKey) and key.role == "worker"


def check(**values: Any) -> None:
    """Return if the broker admits the key, and a process of this host has a connection to its port.

    Raises:
        ManyhandsError: one of both is not so.
    """
    config = settings.validate(ClientConfig, values)
    route = Route(config.broker or DEFAULT_BIND)
    linked = _linked(route)
    _handshake(route, Path(config.key_file), time.monotonic() + config.connect_timeout)
    if not linked:
        raise JobFailed("no node of this host has a link to the broker; see its log")


def _linked(route: Route) -> bool:
    """Whether anything here is connected to the port of the broker."""
    ports = {int(one.rpartition(":")[2]) for one in str(route).split(", ") if host_of(one)}
    return any(
        one.status == psutil.CONN_ESTABLISHED and one.raddr and one.raddr.port in ports
        for one in psutil.net_connections("tcp")
    )


def _handshake(route: Route, key_file: Path, due: float) -> None:
    connector = Connector(route, credentials(key_file, "worker"), key_option="--key-file")
    try:
        while (now := time.monotonic()) < due:
            if any(type(event) is Up for event in connector.turn(now)):
                return
            if not connector.pending():
                select.select(connector.descriptors, [], [], _POLL_SECONDS)
                connector.wake()
        raise BrokerUnreachable(f"no broker answers at {route.current}")
    finally:
        connector.close()
