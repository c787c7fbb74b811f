"""The simulated broker: the real coordinator behind what `coordination_driver` does.

A crash can be set to fall before the log is written, between it and the sends, or among the sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack

from harness.worlds.object_log import ObjectLog
from manyhands_broker.coordination.coordinator import Coordinator
from manyhands_broker.coordination.effects import Effect, Write
from manyhands_broker.coordination.records import Record, RecordKind
from manyhands_broker.core import Drained, Forget, LinkClosed, Received, Send, Stalled
from manyhands_broker.core import Limits as SchedulerLimits
from manyhands_broker.core.model.job import Job
from manyhands_broker.core.model.node import Node
from manyhands_broker.core.state.fleet import Fleet
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from simulation.coordination import broken

if TYPE_CHECKING:
    from simulation.coordination.network import Link
    from simulation.coordination.world import World

#: Where a crash can be set to fall.
DOOMS = ("before the log", "after the log", "among sends")


class Broker:
    """One broker after another on the same log."""

    coordinator: Coordinator

    def __init__(self, world: World) -> None:
        self._world = world
        self.alive = False
        self.life = 0
        self.doom = ""
        self.log = ObjectLog()
        self.links: dict[bytes, Link] = {}
        self._fleet = Fleet(SchedulerLimits())
        self._inbox: list[tuple[Link, m.Message]] = []
        self._effects: list[Effect] = []
        self._stopped_until = 0.0
        self._stopped_at: float | None = None
        self._next_turn: float | None = None

    def __repr__(self) -> str:
        return "broker"

    def start(self) -> None:
        """Start the process: read the log, then listen."""
        from simulation.coordination.world import LIMITS

        if self.alive:
            return
        self.alive, self.doom = True, ""
        self.life += 1
        self.links.clear()
        self._inbox.clear()
        self._effects.clear()
        self._stopped_at = None
        now = self._world.now
        self._fleet = Fleet(SchedulerLimits())
        for host in self._world.hosts:
            if host.up:
                self.node_joined(host.name)
        self.coordinator = Coordinator(
            LIMITS, self.life.to_bytes(16, "big"), self._fleet, now, failed=_fail
        )
        broken.harm_coordinator(self._world.harm, self.coordinator)
        self._world.tell(self, "starts for the {}. time", self.life)
        records = [
            Record(kind, key, msgpack.unpackb(payload, strict_map_key=False))
            for (kind, key), payload in self.log.items()
        ]
        self._effects += self.coordinator.restore(records, now)
        self.coordinator.validate()
        self.wake(0.0)

    def crash(self, why: str) -> None:
        """Kill -9."""
        if not self.alive:
            return
        self._world.tell(self, "dies: {}", why)
        self.alive = False
        random = self._world.random
        for link in list(self.links.values()):
            link.far_open = False
            link.close(random.random() * 0.5, 0.0)
        self.links.clear()
        delay = 0.05 if self._world.healed else random.choice((0.05, 0.5, 3.0, 8.0))
        self._world.after(delay, self.start)

    def pause(self, seconds: float) -> None:
        """SIGSTOP for a while."""
        if self.alive and self._stopped_at is None:
            self._stopped_at = self._world.now
            self._stopped_until = self._world.now + seconds
            self.wake(seconds)

    # What nodes say, as far as it concerns agents

    def node_joined(self, host: str) -> None:
        """The node of a host has come."""
        if self.alive and f"node-{host}" not in self._fleet.by_name:
            peer = f"node {host}".encode()
            node = Node(
                peer, f"node-{host}", host.encode(), self._fleet.free_row(), self._world.now
            )
            node.info, node.host_id = {"agent": f"@{host}"}, host
            node.slots, node.window = 2, 10
            self._fleet.add(node)
            self._fleet.update(node, capabilities=True)

    def node_left(self, host: str) -> None:
        """The node of a host is condemned."""
        node = self._fleet.by_name.get(f"node-{host}")
        if node is not None:
            self._fleet.remove(node)

    def agent_ended(self, host: str, agent: bytes) -> None:
        """A node tells that its agent has ended."""
        if self.alive and f"node-{host}" in self._fleet.by_name:
            message = c.AgentEnded(host, agent, "it died")
            self._handle(Received(f"node {host}".encode(), message))

    # Links

    def accept(self, link: Link) -> bool:
        """Whether a connection is taken."""
        if self.alive and self._world.now >= self._stopped_until:
            self.links[link.peer] = link
            return True
        return False

    def take(self, link: Link, message: m.Message) -> None:
        """A message has arrived."""
        if self.alive and link.peer in self.links:
            self._inbox.append((link, message))
            self.wake(self._world.random.random() * 1e-3)

    def link_closed(self, link: Link) -> None:
        """The transport has noticed that a link is gone."""
        if self.alive and self.links.pop(link.peer, None) is not None:
            self._handle(LinkClosed(link.peer))

    # Turns

    def wake(self, delay: float) -> None:
        """Have a turn soon."""
        life, when = self.life, max(self._world.now + delay, self._stopped_until)
        if self._next_turn is not None and self._next_turn <= when:
            return
        self._next_turn = when

        def turn() -> None:
            if self._next_turn == when:
                self._next_turn = None
            if not self.alive or self.life != life:
                return
            if self._world.now < self._stopped_until:
                # It was stopped since, and goes on then.
                self.wake(0.0)
            else:
                self._turn()

        self._world.at(when, turn)

    def _turn(self) -> None:
        if self._stopped_at is not None:
            away, self._stopped_at = self._world.now - self._stopped_at, None
            self._handle(Stalled(away))
        inbox, self._inbox = self._inbox[:50], self._inbox[50:]
        for link, message in inbox:
            if link.peer in self.links:
                self._world.tell(self, "< {}: {}", link.near, message)
                self._handle(Received(link.peer, message))
        self._handle(Drained())
        self._perform()
        if not self.alive:
            return
        if self._inbox:
            self.wake(0.0)
        wake_at = self.coordinator.wake_at
        if wake_at is not None:
            self.wake(max(0.0, wake_at - self._world.now))

    def _handle(self, event: Received | Drained | Stalled | LinkClosed) -> None:
        self._effects += self.coordinator.handle(event, self._world.now)
        if self._world.random.random() < 0.1:
            self.coordinator.validate()
        if not isinstance(event, Drained):
            self.wake(0.0)

    def _perform(self) -> None:
        effects, self._effects = self._effects, []
        if not self._matters(effects):
            # A crash that is set falls into a turn where it matters.
            self._write(effects)
            self._send(effects)
            return
        if self._world.harm == "answers before the log":
            self._send(effects)
            if self._dies("before the log") or self._dies("after the log"):
                return
            self._write(effects)
            return
        if self._dies("before the log"):
            return
        self._write(effects)
        if self._dies("after the log"):
            return
        self._send(effects)

    def _matters(self, effects: list[Effect]) -> bool:
        """Whether a crash in this turn may cost something; the most have to do with memory alone."""
        kinds = {effect.record.kind for effect in effects if isinstance(effect, Write)}
        if kinds & {RecordKind.PROGRAM, RecordKind.MEMBER}:
            return True
        return bool(kinds) and self._world.random.random() < 0.2

    def _dies(self, where: str) -> bool:
        if self.doom == where:
            self.crash(where)
        return not self.alive

    def _write(self, effects: list[Effect]) -> None:
        self.log.write(effects)

    def _send(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                if self.doom == "among sends" and self._world.random.random() < 0.5:
                    self.crash("among sends")
                    return
                self._send_one(effect.peer, effect.message)
            elif isinstance(effect, Forget):
                link = self.links.pop(effect.peer, None)
                if link is not None:
                    link.far_open = False
                    link.close(self._world.random.random() * 6.0, 0.0)

    def _send_one(self, peer: bytes, message: m.Message) -> None:
        link = self.links.get(peer)
        if link is not None:
            self._world.tell(self, "> {}: {}", link.near, message)
            self._world.checker.broker_said(message)
            link.send_down(message)
        elif isinstance(message, c.AgentWanted):
            for host in self._world.hosts:
                if host.name == message.host:
                    self._world.after(self._world.random.random() * 0.2, host.agent_wanted)


def _fail(error: Exception, job: Job | None) -> None:
    raise error
