"""Connections that have not said hello: how many there may be, and for how long.

Such a connection costs a descriptor and some memory, and needs no key. A real peer says hello as soon as
its handshake is over. So a connection that takes too long is shut. Of too many, the oldest of the
host that has most of them is shut, however young it is.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from manyhands_broker import zmq_connection

#: Time for a hello, from the moment of the connection.
HELLO_SECONDS = 10.0
#: The same while there are more than `CROWD`.
CROWDED_SECONDS = 2.0
CROWD = 128
#: Never more at once, and never more than half of all descriptors.
_MOST = 1_024


class _Pending(NamedTuple):
    since: float
    host: str
    far_end: Any


class PendingConnections:
    """The connections of one listening socket that have not said hello.

    Args:
        descriptors: how many this process may have.
    """

    def __init__(self, descriptors: int) -> None:
        self._most = max(8, min(_MOST, descriptors // 2))
        self._found: dict[int, _Pending] = {}  # the oldest first
        self._hosts: Counter[str] = Counter()
        self._next = 0.0
        self._uncounted = 0

    def __len__(self) -> int:
        return len(self._found)

    def came(self, descriptor: int, now: float) -> None:
        """A connection was accepted, or is to say hello anew."""
        self.forget(descriptor)
        far_end = zmq_connection.far_end(descriptor)
        if far_end is None:
            return  # it has ended already
        host = str(far_end[0])
        self._found[descriptor] = _Pending(now, host, far_end)
        self._hosts[host] += 1
        if len(self._found) > self._most:
            [(crowded, _)] = self._hosts.most_common(1)
            self.shut(next(fd for fd, one in self._found.items() if one.host == crowded))

    def host(self, descriptor: int) -> str:
        """Return the host that a pending connection comes from."""
        pending = self._found.get(descriptor)
        return pending.host if pending is not None else "an unknown address"

    def forget(self, descriptor: int) -> None:
        """A connection has said hello, or has ended."""
        pending = self._found.pop(descriptor, None)
        if pending is not None:
            self._hosts[pending.host] -= 1
            if not self._hosts[pending.host]:
                del self._hosts[pending.host]

    def turn(self, now: float) -> int:
        """Shut connections whose time is up. Everything that has come must have been read before.

        Returns how many were shut since the last call, also for being too many.
        """
        while self._found and now >= self._next:
            descriptor, oldest = next(iter(self._found.items()))
            timeout = CROWDED_SECONDS if len(self._found) > CROWD else HELLO_SECONDS
            if now - oldest.since < timeout:
                break
            self.shut(descriptor)
        shut, self._uncounted = self._uncounted, 0
        return shut

    def stalled(self, now: float) -> None:
        """This process did not run until now: connections that had no chance to say hello get one."""
        self._next = now + CROWDED_SECONDS

    def shut(self, descriptor: int) -> None:
        """Shut a connection, if it is pending."""
        pending = self._found.get(descriptor)
        if pending is None:
            return
        self.forget(descriptor)
        zmq_connection.shut(descriptor, pending.far_end)
        self._uncounted += 1
