"""A host: its node, which starts the host agent, and the agent around the real core of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from harness.worlds.memory import Memories, Memory
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.identity import AgentIdentity
from simulation.coordination import broken
from simulation.coordination.member import Member, Process
from simulation.coordination.network import Link
from simulation.coordination.pipes import Ends

if TYPE_CHECKING:
    from simulation.coordination.world import World


class SharedMemories(Memories):
    """Memory of a host: an agent that takes another's place finds what a process has of it."""

    def adopt(self, descriptor: int, size: int) -> Memory:
        """Return the memory behind a descriptor, without a twin."""
        known = self.made.get(descriptor)
        found = self.made[descriptor] = Memory(descriptor, size)
        if known is not None:
            found.memory = known.memory
        return found


class Host:
    """One machine."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.up = False
        self.agent: Agent | None = None
        self.memories = SharedMemories()
        self.cut_until = 0.0
        self.asleep_until = 0.0

    def __repr__(self) -> str:
        return self.name

    @property
    def runs(self) -> bool:
        """Whether its processes run at present."""
        return self.up and self._world.now >= self.asleep_until

    def start(self) -> None:
        """Start the machine and its node."""
        if not self.up:
            self.up = True
            self._world.broker.node_joined(self.name)
            self._world.tell(self, "is up")

    def agent_wanted(self) -> None:
        """The node is to start the agent, unless it runs."""
        if self.up and self.agent is None:
            self.agent = Agent(self._world, self)
            self.agent.connect()

    def kill_agent(self) -> None:
        """Kill -9 to the agent: its processes die with it, and the node tells."""
        agent = self.agent
        if agent is None or not self.up:
            return
        self._world.tell(agent, "is killed")
        agent.die()
        self.agent = None
        self._tell_agent_ended(agent)

    def _tell_agent_ended(self, agent: Agent) -> None:
        def tell() -> None:
            if not self.up:
                return
            if self._world.now < self.cut_until or not self._world.broker.alive:
                self._world.after(1.0, tell)
            else:
                self._world.broker.agent_ended(self.name, agent.id)

        self._world.after(self._world.random.random() * 0.5, tell)

    def crash(self) -> None:
        """The machine is gone without a word; it may come back."""
        if not self.up:
            return
        self._world.tell(self, "crashes")
        self.up = False
        if self.agent is not None:
            self.agent.die()
            self.agent = None
        self._world.after(1.0, lambda: self._world.broker.node_left(self.name))
        self._world.after(self._world.random.choice((2.0, 9.0)), self.start)

    def cut(self, seconds: float) -> None:
        """Nothing reaches it or comes from it for a while."""
        self.cut_until = max(self.cut_until, self._world.now + seconds)
        if self.agent is not None and self.agent.link is not None:
            random = self._world.random
            self.agent.link.cut(random.random() * 6.0, random.random() * 6.0)

    def sleep(self, seconds: float) -> None:
        """Everything on it stands still for a while."""
        self.asleep_until = max(self.asleep_until, self._world.now + seconds)
        self._world.at(self.asleep_until, self._woke)

    def _woke(self) -> None:
        if self.agent is not None:
            self.agent.woke()

    def heal(self) -> None:
        """Nothing is wrong with it any more."""
        self.cut_until = self._world.now
        self.start()


class Agent:
    """A host agent: the real core, and processes that are models."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self.host = host
        self.id = world.new_id()
        self.alive = True
        self.link: Link | None = None
        name = host.name.encode().ljust(16, b"-")
        me = AgentIdentity(self.id, host.name, f"node-{host.name}", name, f"@{host}", 100)
        self.memories = host.memories
        self.ends = Ends(world, self)
        self._core = AgentCore(me, self.memories)
        broken.harm_agent(world.harm, self._core)
        self.members: dict[bytes, Member] = {}
        #: Members by their channel. The numbers of those that come by themselves are below zero.
        self._channels: dict[int, Member] = {}
        self._numbers = count(-1, -1)
        #: What waits until the machine runs again.
        self._mail: list[Callable[[], None]] = []
        self._next_tick: float | None = None

    def __repr__(self) -> str:
        return f"agent of {self.host}"

    # The link

    def connect(self) -> None:
        """Try to reach the broker."""
        world = self._world
        if not self.alive or self.link is not None:
            return
        link = Link(world, self)
        reachable = world.now >= self.host.cut_until and self.host.runs
        if not reachable or not world.broker.accept(link):
            world.after(0.2 + world.random.random() * 0.5, self.connect)
            return
        self.link = link
        self.event(events.LinkUp())

    def _drop_link(self) -> None:
        if self.link is not None:
            link, self.link = self.link, None
            link.near_open = False
            link.close(0.0, self._world.random.random() * 3.0)
            self._world.after(0.1, self.connect)

    def link_lost(self, link: Link) -> None:
        """The transport has noticed that the link is gone."""
        if self.alive and self.when_running(lambda: self.link_lost(link)) and self.link is link:
            self.link = None
            self._world.after(0.1, self.connect)
            self.event(events.LinkLost())

    def hear(self, link: Link, message: m.Message) -> None:
        """A message of the broker has arrived."""
        runs = self.alive and self.when_running(lambda: self.hear(link, message))
        if runs and self.link is link:
            self.event(events.Received(message))

    # The core

    def event(self, event: events.Event) -> None:
        """Have something happen, and do what comes of it."""
        if not self.alive:
            return
        for one in (event, events.Tick()):
            for effect in self._core.handle(one, self._world.now):
                self._do(effect)
        self._tick_later()

    def _tick_later(self) -> None:
        deadline = self._core.deadline()
        if deadline == math.inf or (self._next_tick is not None and self._next_tick <= deadline):
            return
        self._next_tick = deadline

        def tick() -> None:
            if self._next_tick == deadline:
                self._next_tick = None
                if self.alive and self.when_running(tick):
                    self.event(events.Tick())

        self._world.at(deadline, tick)

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Send(message):
                if self.link is not None:
                    self.link.send_up(message)
            case effects.Tell():
                self._tell(effect)
            case effects.Fork(_, channel, start):
                self._fork(channel, start)
            case effects.Kill(member, number):
                if member in self.members:
                    self.members[member].signalled(number)
            case effects.ReadOut(_, _, then):
                self.event(then)
            case effects.CloseDescriptors(closed):
                self.ends.close(list(closed))
            case effects.Reconnect():
                self._drop_link()
            case effects.Drop(channel):
                self._channels.pop(channel, None)
            case effects.Stop(_, text):
                self._world.tell(self, "leaves: {}", text)
                self.host.kill_agent()
            case (
                effects.MakeEnd()
                | effects.Attach()
                | effects.AllowReading()
                | effects.StopReading()
                | effects.Write()
                | effects.EndWriting()
                | effects.CloseStream()
            ):
                self.ends.do(effect)

    def _tell(self, effect: effects.Tell) -> None:
        member = self._channels.get(effect.channel)
        if member is not None and isinstance(effect.message, c.Mapped) and effect.descriptors:
            member.mapped(self.memories.made[effect.descriptors[0]].memory)
        elif member is not None and isinstance(effect.message, c.Opened) and effect.descriptors:
            member.opened(self._world.files.copy(effect.descriptors[0]))
        elif member is not None:
            member.hear(effect.message)

    def _fork(self, channel: int, start: c.Start) -> None:
        self._world.checker.started(start.member)
        member = Process(self._world, self, start)
        member.channel = channel
        self.members[member.id] = self._channels[channel] = member
        self._world.after(0.0, lambda: self.event(events.Forked(member.id, member.pid)))
        self._world.after(self._world.random.choice((0.02, 0.1, 3.0)), member.begin)

    # Members

    def accept(self, member: Member, hello: c.Program) -> None:
        """A process comes by itself and says who it is."""
        member.channel = next(self._numbers)
        self.members[member.id] = self._channels[member.channel] = member
        self.event(events.Heard(member.channel, hello, [1, 2]))

    def relay(self, member: Member, message: m.Message, *descriptors: int) -> None:
        """A member says something."""
        if member.channel in self._channels and self.alive:
            self.ends.kept |= set(descriptors)
            self.event(events.Heard(member.channel, message, list(descriptors)))
        else:
            self.ends.close(list(descriptors))

    def printed(self, member: Member, data: bytes) -> None:
        """A process has written to its standard output, which this agent reads."""
        if self.alive and self.when_running(lambda: self.printed(member, data)):
            self.event(events.Printed(member.id, 1, data))

    def ended(self, member: Member, code: int) -> None:
        """A process of this host has ended."""
        if self.members.pop(member.id, None) is not member:
            return
        self._world.after(0.0, lambda: self._reap(member, code))

    def _reap(self, member: Member, code: int) -> None:
        if not self.when_running(lambda: self._reap(member, code)):
            return
        if member.is_root:
            if code == 0:
                self.event(events.Heard(member.channel, m.Bye(""), []))
            self._channels.pop(member.channel, None)
            self.event(events.Closed(member.channel))
        else:
            self.event(events.Reaped(member.id, code))

    # The machine

    def woke(self) -> None:
        """The machine runs again: before anything else the agent looks at its lease."""
        if not self.alive or not self.host.runs:
            return
        self.event(events.Tick())
        mail, self._mail = self._mail, []
        for call in mail:
            call()

    def when_running(self, call: Callable[[], None]) -> bool:
        """Whether the machine runs; if it does not, `call` is kept until it does."""
        if self.host.runs:
            return True
        self._mail.append(call)
        return False

    def die(self) -> None:
        """Kill -9, or the end of the machine: every process but a root on a living host dies."""
        self.alive = False
        self.ends.die()
        if self.link is not None:
            self.link.near_open = False
            self.link.close(0.0, self._world.random.random() * 3.0)
            self.link = None
        for member in list(self.members.values()):
            member.lost_agent()
