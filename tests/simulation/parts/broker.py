"""The simulated broker: the real core behind a loop that does what `manyhands_broker.loop` does.

The order is the point: one commit for a whole drain, then the sends. A crash can be set to fall
before the commit, between it and the sends, or among the sends.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

from manyhands_broker.core import (
    Core,
    Drained,
    Effect,
    Limits,
    LinkClosed,
    Persist,
    Pressed,
    Received,
    Send,
    Stalled,
    Suspected,
)
from manyhands_broker.journal import JournalBroken
from manyhands_broker.loop import STALL
from manyhands_broker.ports.base import DRAIN_MESSAGES
from manyhands_shared.protocol import messages as m
from simulation import broken
from simulation.parts.base import Part
from simulation.parts.disk import Disk

if TYPE_CHECKING:
    from simulation.parts.network import Link
    from simulation.world import World

#: Where a crash can be set to fall.
DOOMS = ("before commit", "after commit", "among sends")


class Broker(Part):
    """One broker after another on the same disk."""

    core: Core

    def __init__(self, world: World, limits: Limits, disk: Disk) -> None:
        super().__init__(world, "broker")
        self._limits = limits
        self.disk = disk
        self.life = 0
        self.links: dict[bytes, Link] = {}
        #: Where it is going to die: one of `DOOMS`, or nowhere.
        self.doom = ""
        self._inbox: list[tuple[bytes, m.Message]] = []
        self._committing = False
        self._stopped_at: float | None = None
        #: Adding it to the world's time gives the wall clock's, which people may move.
        self.epoch = 1.7e9
        self.turned_back = False

    @property
    def reachable(self) -> bool:
        """Whether it would answer a handshake."""
        return self.alive and self.world.now >= self.paused_until

    def start(self) -> None:
        """Start the process: read the journal, then listen."""
        if self.alive:
            return
        self.life += 1
        self.alive = True
        self.doom = ""
        self._committing = False
        self._stopped_at = None
        self.links.clear()
        self._inbox.clear()
        now = self.clock()
        self.core = Core(
            self._limits,
            self.life.to_bytes(16, "big"),
            self.disk,
            now,
            epoch=self.epoch + self.world.now - now,
            rng=Random(self.world.seed + self.life),
        )
        broken.harm_broker(self.world.harm, self.core)
        self.world.tell(self, "starts for the {}. time", self.life)
        self.world.checker.broker_started(self.core)
        self._do(self.core.restore(self.disk.jobs()), now)
        self.core.validate()
        self.wake(0.0)

    def crash(self, why: str) -> None:
        """kill -9."""
        if self.alive:
            self.world.tell(self, "dies: {}", why)
            self.halt()
            self.disk.rollback()
            self.world.network.broker_died()
            self.world.broker_is_down()

    def pause(self, seconds: float) -> None:
        """SIGSTOP for a while."""
        if self._stopped_at is None:
            self._stopped_at = self.world.now
        super().pause(seconds)

    def jump(self, seconds: float) -> None:
        """The administrator moves the wall clock; the broker that starts next reads that."""
        self.epoch += seconds
        self.turned_back = self.turned_back or seconds < 0

    def take(self, link: Link, message: m.Message) -> None:
        """A message has arrived."""
        if self.alive:
            self._inbox.append((link.peer, message))
            self.wake(self.random.random() * 1e-3)

    def suspect(self) -> None:
        """Heartbeats of some node seem late, truly or not."""
        if self.alive and not self._committing:
            for node in list(self.core.state.fleet)[:1]:
                self._do(
                    self.core.handle(Suspected(node.row, node.boot_id, 9.0), self.clock()),
                    self.clock(),
                )

    def press(self, level: str) -> None:
        """Heartbeats of some node tell of another pressure on its machine."""
        nodes = list(self.core.state.fleet) if self.alive else []
        if nodes and not self._committing:
            node = self.random.choice(nodes)
            now = self.clock()
            self._do(self.core.handle(Pressed(node.row, node.boot_id, level), now), now)
            self.wake(0.0)

    def turn(self) -> None:
        """One drain."""
        if self._committing:
            return
        now, core = self.clock(), self.core
        if self._stopped_at is not None:
            away, self._stopped_at = self.world.now - self._stopped_at, None
            if away > STALL:
                self._do(core.handle(Stalled(away), now), now)
                if not self.alive:
                    return
        batch, self._inbox = self._inbox[:DRAIN_MESSAGES], self._inbox[DRAIN_MESSAGES:]
        effects: list[Effect] = []
        for peer, message in batch:
            self.world.tell(self, "< {}: {}", self.links.get(peer) or peer, message)
            effects += core.handle(Received(peer, message), now)
            self._check()
        effects += core.handle(Drained(), now)
        self._check()
        slow = self.disk.slowness
        if slow and any(type(effect) is Persist for effect in effects):
            self._committing = True
            self.world.after(slow, partial(self._committed, effects, now, slow, self.life))
            return
        self._do(effects, now)
        self._sleep()

    def _committed(self, effects: list[Effect], now: float, slow: float, life: int) -> None:
        """A slow disk is done."""
        if not self.alive or self.life != life:
            return
        self._committing = False
        self._do(effects, now)
        if self.alive and slow > STALL:
            self._do(self.core.handle(Stalled(slow), self.clock()), self.clock())
        self._sleep()

    def _sleep(self) -> None:
        if self.alive:
            self.wake_by(self.core.wake_at)
            if self._inbox:
                self.wake(0.0)

    def _check(self) -> None:
        if self.core.state.counters["internal_errors"]:
            raise AssertionError("something has broken inside the scheduler")
        if self.inspect():
            self.core.validate()

    def _do(self, effects: list[Effect], now: float) -> None:
        """Journal, then everything else, in order, as `Loop._do` does."""
        while effects and self.alive:
            early = self.world.harm == "acknowledges before it commits"
            if not (self._send(effects) if early else self._commit(effects)):
                return
            if not (self._commit(effects) if early else self._send(effects)):
                return
            effects = [e for peer in self._closed for e in self.core.handle(LinkClosed(peer), now)]
            if self._closed:
                effects += self.core.handle(Drained(), now)
            self._check()

    def _commit(self, effects: list[Effect]) -> bool:
        records = [effect.record for effect in effects if isinstance(effect, Persist)]
        for record in records:
            self.disk.append(record)
        if records:
            if self.doom == "before commit":
                self.crash("before it commits")
                return False
            try:
                self.disk.commit()
            except JournalBroken:
                self.crash("its disk fails")
                return False
            if self.doom == "after commit":
                self.crash("after it has committed")
                return False
        return True

    def _send(self, effects: list[Effect]) -> bool:
        sends = [effect for effect in effects if isinstance(effect, Send)]
        upto = len(sends)
        if self.doom == "among sends" and sends:
            upto = self.random.randrange(len(sends) + 1)
        self._closed: dict[bytes, None] = {}
        for effect in sends[:upto]:
            link = self.links.get(effect.peer)
            if link is None or not link.to_near(effect.message):
                self._closed[effect.peer] = None
            else:
                self.world.tell(self, "> {}: {}", link, effect.message)
            self.world.checker.broker_said(effect.peer, effect.message)
        if self.doom == "among sends" and sends:
            self.crash("among its sends")
            return False
        return True
