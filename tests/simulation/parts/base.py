"""What the simulated processes have in common: turns, pauses, links."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

from manyhands_shared.protocol import messages as m

if TYPE_CHECKING:
    from simulation.parts.broker import Broker as Broker  # noqa: PLC0414 - re-exported
    from simulation.parts.network import Link
    from simulation.parts.node import NodeHost as NodeHost  # noqa: PLC0414 - re-exported
    from simulation.world import World

#: Whose memory a process can borrow, or lend: its host's, or none.
HOSTS = ("", "one", "two")
#: Shortest time between two turns of a loop.
_TURN = 2e-5


class Part:
    """A process with a loop. A turn is made when something woke it, unless it is paused or dead."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.random = Random(f"{world.seed}/{name}")
        self.alive = False
        self.paused_until = 0.0
        #: What its monotonic clock shows when the world's shows 0.
        self._offset = self.random.uniform(0.0, 1e5)
        self._wake_at: float | None = None
        # How many events lie between two checks of the invariants.
        self._rarely = world.check_every
        self._unchecked = 0

    def __str__(self) -> str:
        return self.name

    def clock(self) -> float:
        """Its own monotonic clock."""
        return self._offset + self.world.now

    def wake(self, delay: float) -> None:
        """Have a turn after `delay` seconds at the latest."""
        if self.alive:
            when = self.world.now + max(delay, _TURN)
            if self._wake_at is None or when < self._wake_at:
                self._wake_at = when
                self.world.at(when, self._due)

    def wake_by(self, deadline: float | None) -> None:
        """The same, by a time on its own clock."""
        if deadline is not None and deadline < math.inf:
            self.wake(deadline - self.clock() + 1e-9)

    def pause(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        self.paused_until = max(self.paused_until, self.world.now + seconds)
        self.world.after(seconds, lambda: self.wake(0.0))

    def turn(self) -> None:
        """Once round the loop."""
        raise NotImplementedError

    def inspect(self) -> bool:
        """Whether it is time to check the invariants."""
        self._unchecked += 1
        if self._unchecked >= self._rarely:
            self._unchecked = 0
            return True
        return False

    def halt(self, *, lingers: bool = False) -> None:
        """The process is gone; `lingers` if what it has sent still leaves."""
        self.alive = False
        self._wake_at = None
        self.paused_until = 0.0

    def _due(self) -> None:
        if self._wake_at is None or self._wake_at > self.world.now or not self.alive:
            return  # it was woken sooner, and has had its turn
        if self.world.now < self.paused_until:
            self._wake_at = None
            self.wake(self.paused_until - self.world.now)
            return
        self._wake_at = None
        self.turn()


class Peer(Part):
    """A part with a link to the broker."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.link: Link | None = None
        self._inbox: list[m.Message] = []
        self._news: list[str] = []

    def take(self, link: Link, message: m.Message) -> None:
        """A message has arrived."""
        if self.alive and link is self.link:
            self._inbox.append(message)
            self.wake(self.random.random() * 1e-3)

    def link_up(self, link: Link) -> None:
        """The link stands."""
        if self.alive and link is self.link:
            self._news.append("up")
            self.wake(0.0)

    def link_lost(self, link: Link) -> None:
        """The link is gone."""
        if self.alive and link is self.link:
            self._news.append("lost")
            self.wake(0.0)

    def halt(self, *, lingers: bool = False) -> None:
        """The process is gone, and its socket with it."""
        super().halt(lingers=lingers)
        self._drop_link(lingers=lingers)

    def _drop_link(self, *, lingers: bool = False) -> None:
        link, self.link = self.link, None
        self._inbox.clear()
        self._news.clear()
        if link is not None:
            link.close(lingers=lingers)
