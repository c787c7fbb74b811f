"""The simulated network: links that delay, lose their tail, stall and break.

A link is the life of one DEALER socket. Messages of one direction stay in order; those of different
links overtake one another freely. A link that breaks loses a suffix of what is under way, in each
direction for itself. Each side learns of it in its own time: the near side by its monitor, the broker
only when it sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire

if TYPE_CHECKING:
    from simulation.parts.base import Broker, Peer
    from simulation.world import World

#: ZeroMQ's heartbeats: a link that carries nothing for this time is closed, on each side by itself.
SILENCE = 6.0
#: From a connection that found no broker to the next try.
_RETRY = (0.1, 0.5)


class Direction:
    """One way of a link: messages under way, in order."""

    def __init__(self, link: Link, deliver: Callable[[m.Message], None]) -> None:
        self._link = link
        self._deliver = deliver
        self._flying: deque[m.Message] = deque()
        self._last = 0.0
        self.blocked = False

    def send(self, message: m.Message) -> None:
        """Put a message on its way."""
        self._flying.append(message)
        if not self.blocked:
            self._expect()

    def block(self) -> None:
        """Let nothing arrive any more, until `release`."""
        self.blocked = True

    def release(self) -> None:
        """What was held up goes on its way."""
        self.blocked = False
        for _ in self._flying:
            self._expect()

    def lose_tail(self, keep: float) -> None:
        """Lose a suffix: about `keep` of what is under way still arrives."""
        count = 0 if self.blocked else int(len(self._flying) * keep + 0.5)
        while len(self._flying) > count:
            self._link.world.tell("network", "lost on {}: {}", self._link, self._flying.pop())

    def _expect(self) -> None:
        world, link = self._link.world, self._link
        self._last = max(self._last, world.now + link.delay())
        world.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self._flying and not self.blocked:
            self._deliver(self._flying.popleft())


class Link:
    """One socket's life between a node or client (the near side) and the broker (the far side)."""

    def __init__(self, network: Network, near: Peer, number: int) -> None:
        self.world = network.world
        self.peer = number.to_bytes(5, "big")
        self.near = near
        self.number = number
        self._network = network
        self._random = Random(network.world.seed * 1_000_003 + number)
        self._life = 0
        self.near_open = True
        self.far_open = False
        self.broken = False
        self.inward = Direction(self, self._arrives_at_broker)
        self.outward = Direction(self, self._arrives_near)

    def __str__(self) -> str:
        return f"{self.near.name}#{self.number}"

    def delay(self) -> float:
        """How long the next message takes at least."""
        slow = self._network.slow
        draw = self._random.random()
        return draw * draw * (slow if self._random.random() < 0.1 else 0.002) + 1e-5

    def connect(self) -> None:
        """Try to shake hands, again and again."""
        if not self.near_open:
            return
        broker = self._network.broker
        if broker.reachable and self.near not in self._network.parted:
            self._life = broker.life
            self.far_open = True
            broker.links[self.peer] = self
            self.world.after(self.delay(), self._up)
        else:
            self.world.after(self._random.uniform(*_RETRY), self.connect)

    def to_broker(self, message: m.Message) -> None:
        """Send from the near side."""
        if self.near_open and not self.broken:
            self.inward.send(self._network.carry(message))

    def to_near(self, message: m.Message) -> bool:
        """Send from the broker; false if it knows that the link is gone."""
        if not self.far_open:
            return False
        if not self.broken:
            self.outward.send(self._network.carry(message))
        return True

    def close(self, *, lingers: bool = False) -> None:
        """The near side closes its socket, or is dead; `lingers` if what it has sent still leaves."""
        self.near_open = False
        far_after = 0.0 if self._random.random() < 0.7 else self._random.uniform(0, SILENCE)
        self.sever(0.0, far_after, lingers=lingers)

    def sever(self, near_after: float, far_after: float, *, lingers: bool = False) -> None:
        """The connection breaks; the two sides notice after their seconds."""
        if self.broken:
            return
        self.broken = True
        self.inward.lose_tail(1.0 if lingers else self._random.choice((0.0, 0.5, 1.0)))
        self.outward.lose_tail(self._random.choice((0.0, 0.5, 1.0)))
        self.world.after(far_after, self._far_ends)
        self.world.after(near_after, self._near_ends)

    def _up(self) -> None:
        if self.near_open and not self.broken:
            self.near.link_up(self)

    def _near_ends(self) -> None:
        if self.near_open:
            self.near.link_lost(self)

    def _far_ends(self) -> None:
        self.far_open = False
        if self._network.broker.life == self._life:
            self._network.broker.links.pop(self.peer, None)

    def _arrives_at_broker(self, message: m.Message) -> None:
        if self._network.broker.life == self._life:
            self._network.broker.take(self, message)

    def _arrives_near(self, message: m.Message) -> None:
        if self.near_open:
            self.near.take(self, message)


class Network:
    """All links, and what is wrong with them."""

    def __init__(self, world: World, rng: Random) -> None:
        self.world = world
        self.broker: Broker
        #: Slowest message now and then, in seconds.
        self.slow = rng.choice((0.005, 0.05, 0.5))
        #: Whether messages pass through their encoding.
        self._encodes = rng.random() < 0.2
        #: Peers that cannot reach the broker.
        self.parted: set[Peer] = set()
        self._count = 0

    def open(self, near: Peer, delay: float) -> Link:
        """A new socket of `near`, which connects after `delay`."""
        self._count += 1
        link = Link(self, near, self._count)
        self.world.after(delay, link.connect)
        return link

    def part(self, near: Peer, seconds: float, ways: str) -> None:
        """Nothing passes between `near` and the broker; `ways` is ``both``, ``in`` or ``out``."""
        self.parted.add(near)
        link = near.link
        if link is not None and link.far_open:
            if ways != "out":
                link.inward.block()
            if ways != "in":
                link.outward.block()
            silence = SILENCE * self.world.random.uniform(1.0, 1.5)
            if seconds > silence:
                self.world.after(silence, lambda: link.sever(*self._apart()))
        self.world.after(seconds, lambda: self.unite(near))

    def unite(self, near: Peer) -> None:
        """They can reach each other again."""
        if near in self.parted:
            self.parted.discard(near)
            link = near.link
            if link is not None and not link.broken:
                for way in (link.inward, link.outward):
                    if way.blocked:
                        way.release()

    def broker_died(self) -> None:
        """The broker's process is gone, and with it its end of every link."""
        for link in list(self.broker.links.values()):
            parted = link.near in self.parted
            link.sever(SILENCE if parted else self.world.random.random() * 0.05, 0.0)

    def carry(self, message: m.Message) -> m.Message:
        """The message as the other side will see it: nothing in it is shared."""
        if self._encodes:
            return wire.decode(wire.encode(message))
        return (
            m.Results(message.seq, copies(message)) if isinstance(message, m.Results) else message
        )

    def _apart(self) -> tuple[float, float]:
        draw: Any = self.world.random.random
        return draw() * 2, draw() * 2


def copies(message: m.Results) -> list[m.ResultGroup]:
    """The groups of a message as they are now: who sends them lets go of parts of them later."""
    return [
        m.ResultGroup(g.job, g.attempt, g.indices[:], g.statuses, g.bodies[:], g.seconds)
        for g in message.groups
    ]
