"""The node's link to its broker: a `Connector` with the node's key, in the terms of the node's core."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from manyhands_shared.processes.thread_start import start
from manyhands_shared.transport.link import Link
from manyhands_shared.transport.link.connector import Connector, Lost, Up
from manyhands_shared.transport.reachability import silence
from manyhands_worker.core import events

if TYPE_CHECKING:
    from manyhands_shared.security.role_key import Credentials
    from manyhands_shared.transport.failover import Route

log = logging.getLogger("manyhands.worker")

#: Seconds without a broker before the node says so, and for one more attempt that tells why.
_SILENCE_SECONDS, _ATTEMPT_SECONDS = 2.0, 3.0


class SilenceNotice:
    """Says once, whenever the broker is away for two seconds, that it is and why."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._due: float | None = None
        self._is_told = False

    def turn(self, now: float, *, is_served: bool) -> None:
        """Look whether to say something. `is_served`: the broker has taken the node in."""
        if is_served:
            self._due, self._is_told = None, False
        elif self._due is None:
            self._due = now + _SILENCE_SECONDS
        elif now >= self._due and not self._is_told:
            # Looking up a name may take as long as the system likes.
            thread = threading.Thread(target=self._tell, name="manyhands-silence", daemon=True)
            self._is_told = start(thread)
            self._due = now + _SILENCE_SECONDS

    def _tell(self) -> None:
        where = silence(self._route.current, _ATTEMPT_SECONDS)
        log.warning("no broker has let this node in yet at %s. It goes on trying", where)


def open_connector(route: Route, key_file: str, connect: Callable[[], Link] | None) -> Connector:
    """Return the connector of a node.

    Args:
        route: the addresses of the broker.
        key_file: the cluster key's file, or empty.
        connect: makes links in another way than by `route`.

    Raises:
        ConfigError: the key file cannot be used.
    """
    return Connector(route, _key(key_file), key_option="--key-file", connect=connect)


def turn(connector: Connector, now: float) -> Iterator[events.Event]:
    """Turn the connector; yield what the core is told of it.

    Raises:
        NotAuthorised: the broker refuses the key.
        ConfigError: the system does not know such an address.
    """
    for event in connector.turn(now):
        match event:
            case Up():
                yield events.LinkUp()
            case Lost():
                yield events.LinkLost("the connection broke")
            case _:
                yield events.Received(event)


def _key(key_file: str) -> Credentials | None:
    if not key_file:
        return None
    from manyhands_shared.security.role_key import credentials  # noqa: PLC0415 - 10 ms for a few nodes
    from manyhands_worker.host.key_hiding import let_go  # noqa: PLC0415 - as said above

    key = credentials(Path(key_file), "worker")
    let_go(key_file)
    return key
