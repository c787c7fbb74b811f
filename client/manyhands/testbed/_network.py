"""The hosts, the switch between them, and what can go wrong with it."""

from __future__ import annotations

import itertools
import os
import select
import subprocess
import sys
import weakref
from collections.abc import Iterable
from typing import Self

from manyhands.testbed import _link, _names
from manyhands.testbed._host import Host
from manyhands.testbed._ip import ip
from manyhands.testbed._link import Shape
from manyhands_shared.errors import ManyhandsError

MAX_HOSTS = 1_000
_LINK_SECONDS = 20.0
_MAIN = "main"
_numbers = itertools.count()


class Network:
    """Make hosts that reach each other and nothing else, for as long as this object is open.

    The next `Network` removes what an owner that was killed left behind.

    Args:
        hosts: how many, 1 to 1,000.

    Raises:
        ValueError: another number of hosts.
        ManyhandsError: this machine lacks something for it; the text says what.
    """

    def __init__(self, hosts: int) -> None:
        if not 1 <= hosts <= MAX_HOSTS:
            raise ValueError(f"a network has 1 to {MAX_HOSTS} hosts")
        reason = _names.unavailable()
        if reason:
            raise ManyhandsError(reason)
        _names.sweep()
        number = next(_numbers)
        self._switch = _names.owned(number, "switch")
        #: The hosts, in order.
        self.hosts = [
            Host(index, _names.owned(number, f"host{index}"), self._switch)
            for index in range(hosts)
        ]
        self._bridges: set[str] = set()
        self._links: dict[Host, subprocess.Popen[bytes]] = {}
        self._remove = weakref.finalize(
            self, _remove, os.getpid(), self._switch, self.hosts, self._links
        )
        try:
            ip("netns", "add", self._switch)
            for host in self.hosts:
                self.power_on(host)
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process on the hosts and remove them. May be called again."""
        self._remove()

    def partition(self, *groups: Iterable[Host]) -> None:
        """Split: only hosts of the same group reach each other; those in no group are one more.

        No host is told: packets between groups just vanish. It replaces an earlier split.
        """
        self._plug(self.hosts, _MAIN)
        for number, group in enumerate(groups):
            self._plug(group, f"part{number}")

    def drop(self, source: Host, target: Host) -> None:
        """Lose everything that `source` sends to `target`; the other way stays open."""
        source.drop_towards(target.address)

    def heal(self) -> None:
        """Undo `partition` and `drop`. Shapes stay, and hosts that are off stay off."""
        self._plug(self.hosts, _MAIN)
        for host in self.hosts:
            if host.is_on:
                host.drop_nothing()

    def power_off(self, host: Host) -> None:
        """Pull a host's plug: everything on it ends at once, and no other host is told.

        A host that was connected with it keeps a half-open connection.
        """
        host.power_off()

    def power_on(self, host: Host) -> None:
        """Boot a host that is off, with no process and no connection, on the side of no group."""
        host.power_on()
        if host in self._links:
            self._put(host.port, _cable(host))
        self._plug([host], _MAIN)

    def shape(self, host: Host, shape: Shape | None) -> None:
        """Give a host's cable a delay, a rate or losses, or with `None` a perfect one again.

        Connections live on, and a split is forgotten. A process of its own carries the frames, some
        ten thousand a second, by the same rules on every kernel.

        Raises:
            ManyhandsError: the link did not start.
        """
        old = self._links.pop(host, None)
        if old is not None:
            _end(old)
        if shape is not None:
            self._links[host] = self._start_link(host, shape)
            self._put(_near(host), _cable(host))
            ip("-n", self._switch, "link", "set", _near(host), "up")
            ip("-n", self._switch, "link", "set", _far(host), "up")
            if host.is_on:
                self._put(host.port, _cable(host))
        self._plug([host], _MAIN)

    def _plug(self, hosts: Iterable[Host], bridge: str) -> None:
        for host in hosts:
            if host in self._links:
                self._put(_far(host), bridge)
            elif host.is_on:
                self._put(host.port, bridge)

    def _put(self, port: str, bridge: str) -> None:
        if bridge not in self._bridges:
            ip("-n", self._switch, "link", "add", bridge, "type", "bridge")
            ip("-n", self._switch, "link", "set", bridge, "up")
            self._bridges.add(bridge)
        ip("-n", self._switch, "link", "set", port, "master", bridge)

    def _start_link(self, host: Host, shape: Shape) -> subprocess.Popen[bytes]:
        numbers = map(str, (shape.delay, shape.rate, shape.loss, shape.seed))
        command = [sys.executable, "-P", "-m", _link.__name__, str(os.getpid()), *numbers]
        with _names.inside(self._switch):
            link = subprocess.Popen(
                [*command, _near(host), _far(host)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                process_group=0,
            )
        assert link.stdout is not None
        with link.stdout as pipe:
            if select.select([pipe], [], [], _LINK_SECONDS)[0] and pipe.readline():
                return link
        _end(link)
        raise ManyhandsError(f"the shaped link of {host.name} did not start; see above why")


def _near(host: Host) -> str:
    return f"near{host.index}"


def _far(host: Host) -> str:
    return f"far{host.index}"


def _cable(host: Host) -> str:
    return f"cable{host.index}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _remove(
    owner: int, switch: str, hosts: list[Host], links: dict[Host, subprocess.Popen[bytes]]
) -> None:
    if os.getpid() != owner:
        return  # a fork: the network is the parent's
    for link in links.values():
        _end(link)
    for host in hosts:
        host.power_off()
    _names.remove(switch)
