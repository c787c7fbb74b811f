"""How long a connection to the HTTP server may take, and how many there may be.

Each connection is for one request, answered in milliseconds, so slow clients need not be waited for. If
there are too many connections, the oldest of the host that has most of them gives way. So a probe always
finds a place.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

#: From the connection to the end of the answer.
LIFE_SECONDS = 5.0
#: Connections at once, if there are descriptors for twice as many.
MOST = 512
#: Connections that are accepted at once: few, so that each is read before it may have to give way.
BACKLOG = 64
#: Connections that last, for event streams; over these the oldest gives way.
MOST_LASTING = 64
#: The longest head of a request.
HEAD_BYTES = 16 << 10


class Connections:
    """The open connections, the oldest first."""

    def __init__(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = MOST if soft == resource.RLIM_INFINITY else min(MOST, soft // 2)
        self._open: dict[Connection, str] = {}
        self._hosts: Counter[str] = Counter()
        #: Those that last, the oldest first.
        self._lasting: dict[Connection, None] = {}

    def add(self, connection: Connection, host: str) -> None:
        """Note a new connection; another gives way if they are too many."""
        self._open[connection] = host
        self._hosts[host] += 1
        if len(self._open) > self._most:
            [(busiest, _)] = self._hosts.most_common(1)
            oldest = next(one for one, host in self._open.items() if host == busiest)
            self.remove(oldest)
            oldest.give_way()

    def remove(self, connection: Connection) -> None:
        """Forget a connection that ends."""
        self._lasting.pop(connection, None)
        host = self._open.pop(connection, None)
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    def keep(self, far_end: tuple[str, int]) -> None:
        """Let the connection from there last until its answer ends."""
        found = next((one for one in self._open if one.far_end == tuple(far_end)), None)
        if found is None:
            return
        found.last()
        self._lasting[found] = None
        if len(self._lasting) > MOST_LASTING:
            oldest = next(iter(self._lasting))
            self.remove(oldest)
            oldest.give_way()


class Connection(H11Protocol):
    """One connection: a request, an answer, and its end."""

    def __init__(self, *arguments: Any, connections: Connections, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._among = connections
        self._end: asyncio.TimerHandle | None = None
        self.far_end: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._end = self.loop.call_later(LIFE_SECONDS, transport.abort)
        far_end = transport.get_extra_info("peername")
        if far_end:
            self.far_end = (str(far_end[0]), int(far_end[1]))
        self._among.add(self, str(far_end[0]) if far_end else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._end is not None:
            self._end.cancel()
        self._among.remove(self)
        super().connection_lost(exc)

    def last(self) -> None:
        """Set no end to it."""
        if self._end is not None:
            self._end.cancel()

    def give_way(self) -> None:
        """End at once."""
        self.transport.abort()
