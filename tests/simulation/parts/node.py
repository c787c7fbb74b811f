"""The simulated node: the real core between the simulated network and a simulated pool."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.public_name import public_name
from manyhands_worker.core import effects, events
from manyhands_worker.core.node_core import Identity, NodeCore
from simulation import broken
from simulation.parts.base import HOSTS, Peer
from simulation.parts.network import copies
from simulation.parts.pool import FakePool

if TYPE_CHECKING:
    from simulation.parts.network import Link
    from simulation.world import World

#: How often a batch needs a stored value.
_WANTS = 0.2
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


class NodeHost(Peer):
    """A machine on which a node is started, and started again after it died."""

    core: NodeCore

    def __init__(self, world: World, name: str, slots: int) -> None:
        super().__init__(world, name)
        self.slots = slots
        self.boot_id = b""
        #: Whether the machine is gone for good.
        self.scrapped = False
        self.pool: FakePool | None = None
        self._pause = _FIRST_PAUSE
        #: Its last results, and whether it says them again, as no node should.
        self._said: deque[m.ResultGroup] = deque(maxlen=50)
        self._repeats = self.random.random() < 0.4
        self._window = self.random.choice((4, 64, 8192))
        self.host_id = self.random.choice(HOSTS)

    def start(self) -> None:
        """Start the node's process."""
        if self.alive:
            return
        self.alive = True
        self.boot_id = self.random.randbytes(16)
        self._said.clear()
        info: dict[str, Any] = {"resources": {"gpu": 1.0}} if self.name == "n0" else {}
        info["host_id"] = self.host_id
        identity = Identity(self.name, self.boot_id, self.slots, self._window, 5.0, info)
        devices = {str(at): 1.0 for at in range(len(info.get("resources", {})))}
        self.core = NodeCore(replace(identity, devices=devices))
        broken.harm_node(self.world.harm, self.core)
        self.pool = None
        self.pool = FakePool(self, self.slots, Random(self.random.random()))
        for slot in range(self.slots):
            self.pool.bear(slot)
        self._pause = _FIRST_PAUSE
        self.link = self.world.network.open(self, 0.0)
        self.world.tell(
            self, "starts with {} slots, boot id {}", self.slots, self.boot_id.hex()[:6]
        )
        self.wake(0.0)

    def crash(self) -> None:
        """kill -9."""
        if self.alive:
            self.world.tell(self, "is killed")
            self._end()

    def leave(self) -> None:
        """SIGTERM."""
        if self.alive:
            self.world.tell(self, "is told to leave")
            self._tell(events.Leave("SIGTERM"))
            self.wake(0.0)

    def turn(self) -> None:
        """Once round the loop of `manyhands_worker.node`."""
        news, self._news = self._news, []
        for what in news:
            if what == "up":
                self._pause = _FIRST_PAUSE
                self._tell(events.LinkUp())
            else:
                self._relink()
                self._tell(events.LinkLost("the connection broke"))
        inbox, self._inbox = self._inbox, []
        link = self.link
        for message in inbox:
            if self.alive and self.link is link:
                self._tell(events.Received(message))
                if self._repeats and link is not None and isinstance(message, m.Assign):
                    self._repeat(link, message)
        assert self.pool is not None
        for event in self.pool.take_events():
            self._tell(event)
        self._tell(events.Tick())
        if self.alive:
            self.wake_by(self.core.deadline(self.clock()))

    def _tell(self, event: events.Event) -> None:
        if not self.alive:
            return
        effects = self.core.handle(event, self.clock())
        if self.inspect():
            self.core.validate()
        for effect in effects:
            self._do(effect)

    def _do(self, effect: effects.Effect) -> None:
        pool = self.pool
        assert pool is not None
        match effect:
            case effects.Start(slot, batch):
                pool.start(slot, batch)
                self._want()
            case effects.Send(message):
                if self.link is not None:
                    self.link.to_broker(message)
                    if isinstance(message, m.Results):
                        self._said += copies(message)
            case effects.Free(kept):
                for one in kept:
                    one.free()
            case effects.Revoke(slot, limit):
                pool.revoke(slot, limit)
            case effects.Kill(slot):
                pool.kill(slot)
            case effects.Retire(slot):
                pool.retire(slot)
            case effects.Open(slot):
                pool.open_slot(slot)
            case effects.Close(slot):
                pool.close_slot(slot)
            case effects.MakeEnvironment():
                pool.make(effect)
            case effects.Reconnect():
                self._relink()
            case effects.Stop(_, text):
                self.world.tell(self, "stops: {}", text or "drained")
                self._end(lingers=True)

    def _want(self) -> None:
        """A task needs a value that lies with some client, and that is not here."""
        client = self.random.choice(self.world.clients)
        if self.random.random() < _WANTS and client.alive:
            owner = public_name(client.session.token)
            self.world.after(
                0.0, lambda: self._tell(events.Wanted(self.random.choice(client.values), owner))
            )

    def _repeat(self, link: Link, assigned: m.Assign) -> None:
        """Say of tasks that came again what became of them the last time."""
        again = {(group.job, index) for group in assigned.groups for index in group.indices}
        old = [
            group
            for group in self._said
            if any((group.job, index) in again for index in group.indices)
        ]
        if old:  # under a number that acknowledges nothing
            link.to_broker(m.Results(0, old))

    def _relink(self) -> None:
        self._drop_link()
        self.link = self.world.network.open(self, self._pause * self.random.uniform(0.5, 1.0))
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def _end(self, *, lingers: bool = False) -> None:
        self.halt(lingers=lingers)
        self.world.node_is_down(self)
