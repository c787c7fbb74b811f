"""The ways to a broker that has several addresses, or a name with several: tried one after the other.

ZeroMQ connects to one address, and of a name takes one. So the choice is made here. After an attempt
has failed the next address is due; after the last, the first again, with names looked up anew.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from manyhands_shared.transport import address

#: Host and port → numeric addresses, in the order in which the system would try them.
Resolver = Callable[[str, int], list[str]]


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        # The name may become known later.
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_numeric(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except OSError:
            continue
        return True
    return False


class Route:
    """Addresses of one broker, or of several when one of them serves.

    Args:
        text: The addresses, separated by commas.
        resolver: Looks names up; may take as long as the system does.

    Raises:
        ConfigError: one of them is no address.
    """

    def __init__(self, text: str, resolver: Resolver = _resolve) -> None:
        self._given = address.parse_all(text)
        self._resolver = resolver
        self._found: list[str] = []
        self._at = 0
        self._rounds = 0

    def __str__(self) -> str:
        return ", ".join(self._given)

    @property
    def current(self) -> str:
        """The address to connect to now."""
        if not self._found:
            self._look_up()
        return self._found[self._at]

    @property
    def has_others(self) -> bool:
        """Whether there is something else to try if `current` does not answer."""
        return bool(self.current) and len(self._found) > 1

    def failed(self) -> bool:
        """An attempt at `current` has failed; returns whether another is due now.

        At the end of a round it is not, until the last one has failed once more. ZeroMQ pauses before
        it tries that again, so that failing rounds do not follow each other at full speed.
        """
        if self._at + 1 < len(self._found):
            self._at += 1
            return True
        self._rounds += 1
        if self._rounds % 2:
            return False
        self._look_up()
        return True

    def _look_up(self) -> None:
        found = [one for given in self._given for one in self._expand(given)]
        self._found, self._at = list(dict.fromkeys(found)), 0

    def _expand(self, given: str) -> list[str]:
        """The numeric addresses of a name; itself if it has just one, which ZeroMQ looks up anew."""
        host = address.host_of(given)
        if not host or _is_numeric(host):
            return [given]
        port = given.rpartition(":")[2]
        found = self._resolver(host, int(port))
        if len(found) < 2:
            return [given]
        return [f"tcp://[{one}]:{port}" if ":" in one else f"tcp://{one}:{port}" for one in found]
