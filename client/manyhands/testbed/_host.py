"""One host of a test-bed: a network namespace with one address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from manyhands.testbed import _names
from manyhands.testbed._ip import IpError, ip
from manyhands_shared.errors import ManyhandsError

#: Where addresses are from: 198.18.0.0/15 is set aside for tests of networks (RFC 2544).
PREFIX_BITS = 16
#: A hardware address that no host has: what is sent there is lost without a word.
_NOWHERE = "02:00:00:00:00:01"


class Host:
    """Stand for a host of a `Network`, which makes it.

    Attributes:
        index: its place among the hosts.
        name: ``host-0``, ``host-1``, …
        address: its IPv4 address, as text.
        is_on: false between `power_off` and `power_on`.
    """

    def __init__(self, index: int, namespace: str, switch: str) -> None:
        self.index = index
        self.name = f"host-{index}"
        self.address = f"198.18.{(index + 1) >> 8}.{(index + 1) & 255}"
        self._hardware = f"02:00:00:01:{(index + 1) >> 8:02x}:{(index + 1) & 255:02x}"
        self.is_on = False
        #: The other end of its cable, in the switch's namespace.
        self.port = f"port{index}"
        self._namespace = namespace
        self._switch = switch
        self._deaf_ends: set[str] = set()

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}{'' if self.is_on else ' off'}>"

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Put the calling thread on this host, within a block.

        Sockets that it makes are the host's, and so are threads and processes that it starts, for
        as long as they live. Other threads stay where they are.

        Raises:
            ManyhandsError: the host is off.
        """
        if not self.is_on:
            raise ManyhandsError(f"{self.name} is off; call power_on first")
        with _names.inside(self._namespace):
            yield

    def processes(self) -> list[int]:
        """Return the pids of what runs on it, but for this process."""
        return _names.processes(self._namespace) if self.is_on else []

    def power_on(self) -> None:
        """Boot it, with no process and no connection. Nothing happens if it is on."""
        if self.is_on:
            return
        name = self._namespace
        self.is_on = True  # from here on there is something to remove
        ip("netns", "add", name)
        ip(
            *("-n", self._switch, "link", "add", self.port, "type", "veth"),
            # A rebooted host has the hardware address that its neighbours remember.
            *("peer", "name", "eth0", "address", self._hardware, "netns", name),
        )
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "address", "add", f"{self.address}/{PREFIX_BITS}", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", self._switch, "link", "set", self.port, "up")
        self._deaf_ends.clear()

    def power_off(self) -> None:
        """Pull the plug: everything on it ends at once, and no host on the network is told.

        A host that was connected keeps a half-open connection.
        """
        if not self.is_on:
            return
        self.is_on = False
        # The cable first, so that no dying process can say goodbye.
        with suppress(IpError):
            ip("-n", self._switch, "link", "delete", self.port)
        _names.remove(self._namespace)

    def drop_towards(self, address: str) -> None:
        """Lose all that it sends to `address`; what comes from there arrives."""
        entry = ("neigh", "replace", address, "lladdr", _NOWHERE, "dev", "eth0", "nud", "permanent")
        ip("-n", self._namespace, *entry)
        self._deaf_ends.add(address)

    def drop_nothing(self) -> None:
        """Undo `drop_towards`."""
        for address in self._deaf_ends:
            ip("-n", self._namespace, "neigh", "delete", address, "dev", "eth0")
        self._deaf_ends.clear()
