"""A host: its node, which starts the host agent, and the agent as the protocol asks it to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from simulation.coordination.member import Member, Process
from simulation.coordination.network import Link

if TYPE_CHECKING:
    from simulation.coordination.world import World

#: The part of its lease after which an agent stops its members.
_SHARE = 0.9


class Host:
    """One machine."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self.up = False
        self.agent: Agent | None = None
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
            self.agent.link.sever(random.random() * 6.0, random.random() * 6.0)

    def sleep(self, seconds: float) -> None:
        """Everything on it stands still for a while."""
        self.asleep_until = max(self.asleep_until, self._world.now + seconds)
        if self.agent is not None:
            self._world.at(self.asleep_until, self.agent.woke)

    def heal(self) -> None:
        """Nothing is wrong with it any more."""
        self.cut_until = self._world.now
        self.start()


class Agent:
    """A host agent."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self.host = host
        self.id = world.new_id()
        self.alive = True
        self.link: Link | None = None
        self._welcomed = False
        self.members: dict[bytes, Member] = {}
        #: What every process ended as that was started here, or `None` while it runs.
        self._known: dict[bytes, int | None] = {}
        self._unacknowledged: dict[bytes, int] = {}
        #: What members sent, in order: with the renewal before it, until it is known to have arrived
        #: and has its answer.
        self._sent: list[tuple[int, m.Message]] = []
        self._unanswered: set[tuple[bytes, int]] = set()
        self._starts: dict[bytes, c.Start] = {}
        self._counter = 0
        self._answered = 0
        self._renewals: dict[int, float] = {}
        self._lease_until = 0.0
        self.frozen = False
        #: What waits until the machine runs again.
        self._mail: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"agent of {self.host}"

    # Links

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
        self._welcomed = False
        states = [
            c.MemberState(
                one.id, one.program, bytes(16), c.RUNNING if one.began else c.STARTING, one.pid
            )
            for one in self.members.values()
        ]
        world.after(5.0, lambda: self._unwelcome(link))
        link.send_up(
            c.AgentHello(
                m.PROTOCOL_VERSION,
                self.host.name,
                f"node-{self.host.name}",
                self.host.name.encode().ljust(16, b"-"),
                self.id,
                "",
                100,
                states,
                b"",
                {},
            )
        )

    def _unwelcome(self, link: Link) -> None:
        if self.link is link and not self._welcomed:
            self._drop_link()

    def _drop_link(self) -> None:
        if self.link is not None:
            link, self.link = self.link, None
            link.near_open = False
            link.sever(0.0, self._world.random.random() * 3.0)
            self._world.after(0.1, self.connect)

    def link_lost(self, link: Link) -> None:
        """The transport has noticed that the link is gone."""
        if self.link is link and self.alive:
            self.link = None
            self._world.after(0.1, self.connect)

    def send(self, message: m.Message) -> None:
        """Send, if there is a link on which the broker has said welcome."""
        if self.link is not None and self._welcomed:
            self.link.send_up(message)

    # Time

    def woke(self) -> None:
        """The machine runs again: before anything else the agent looks at its lease."""
        if not self.alive or not self.host.runs:
            return
        self._check_lease()
        mail, self._mail = self._mail, []
        for call in mail:
            call()

    def when_running(self, call: Callable[[], None]) -> bool:
        """Whether the machine runs; if it does not, `call` is kept until it does."""
        if self.host.runs:
            return True
        self._mail.append(call)
        return False

    def _renew(self, link: Link) -> None:
        from simulation.coordination.world import LIMITS  # noqa: PLC0415 - it imports this

        if self.link is not link or not self.alive:
            return
        if self.host.runs:
            self._counter += 1
            self._renewals[self._counter] = self._world.now
            self.send(m.Renew(self._counter, len(self.members), 100))
        self._world.after(LIMITS.renew_interval, lambda: self._renew(link))

    def _leased(self, since: float) -> None:
        from simulation.coordination.world import LIMITS  # noqa: PLC0415 - it imports this

        self._lease_until = max(self._lease_until, since + LIMITS.lease * _SHARE)
        self._world.at(self._lease_until, self._check_lease)

    def _check_lease(self) -> None:
        if not self.alive or not self.host.runs or self._world.now < self._lease_until:
            return
        if self._world.harm != "leases are ignored" and not self.frozen:
            self._world.tell(self, "stops its processes")
            self.frozen = True
        # The link is not trusted any more.
        self._drop_link()

    # Messages of the broker

    def hear(self, link: Link, message: m.Message) -> None:
        """A message has arrived."""
        if not self.alive or not self.when_running(lambda: self.hear(link, message)):
            return
        if self.link is not link:
            return
        match message:
            case c.AgentWelcome():
                self._welcome(link, message)
            case m.Who():
                self._drop_link()
            case m.Refused():
                self._drop_link()
            case m.Ping(counter):
                self.send(m.Pong(counter))
            case m.Lease(counter):
                since = self._renewals.pop(counter, None)
                if since is not None:
                    self._answered = max(self._answered, counter)
                    self._forget_arrived()
                    self._leased(since)
            case c.Start():
                self._start(message)
            case c.Signal(member, number):
                self.kill(member, number)
            case c.ExitAcknowledged(member):
                self._unacknowledged.pop(member, None)
            case c.Response():
                self._unanswered.discard((message.member, message.number))
                self._pass_on(message.member, message)
            case c.Placed() | c.Began() | c.Ended():
                self._about_child(message)

    def _about_child(self, message: c.Placed | c.Began | c.Ended) -> None:
        if isinstance(message, c.Began | c.Ended) or message.error:
            self._starts.pop(message.member, None)
        for member in list(self.members.values()):
            if member.is_root:
                self._pass_on(member.id, message)

    def _pass_on(self, member_id: bytes, message: m.Message) -> None:
        member = self.members.get(member_id)
        if member is not None:
            member.hear(message)

    def _welcome(self, link: Link, welcome: c.AgentWelcome) -> None:
        self._welcomed = True
        keep = {welcome.keep[at : at + 16] for at in range(0, len(welcome.keep), 16)}
        for member_id, member in list(self.members.items()):
            if member_id not in keep and not member.is_root:
                self._world.tell(self, "kills {}, which does not count any more", member)
                self.kill(member_id, 9, stale=True)
        self._renewals.clear()
        self._leased(self._world.now)
        for member_id, code in list(self._unacknowledged.items()):
            self.send(c.Ended(member_id, code, ""))
        for _, message in self._sent:
            self.send(message)
        for start in self._starts.values():
            self.send(start)
        self._thaw()
        self._renew(link)

    def _thaw(self) -> None:
        self.frozen = False
        for member in list(self.members.values()):
            member.thaw()

    def _start(self, start: c.Start) -> None:
        """Obey the first order to start a process, and no other."""
        known = start.member in self._known
        if known and self._world.harm != "a second start is obeyed":
            return
        self._world.checker.started(start.member)
        self._known[start.member] = None
        member = Process(self._world, self, start)
        self.members[member.id] = member
        self._world.after(self._world.random.random() * 0.1, member.begin)

    # Messages of members

    def relay(self, message: m.Message, *, answered: bool = False) -> None:
        """Pass on what a member says, until it is known to have arrived; or has its answer."""
        if isinstance(message, c.Start):
            self._starts[message.member] = message
        else:
            self._sent.append((self._counter, message))
        if answered and isinstance(message, c.Request):
            self._unanswered.add((message.member, message.number))
        self.send(message)

    def given_up(self, member: bytes, number: int) -> None:
        """A member waits no longer for an answer."""
        self._unanswered.discard((member, number))

    def _forget_arrived(self) -> None:
        self._sent = [
            (counter, message)
            for counter, message in self._sent
            if counter >= self._answered
            or (
                isinstance(message, c.Request)
                and (message.member, message.number) in self._unanswered
            )
        ]

    # Ends

    def ended(self, member: Member, code: int) -> None:
        """A process of this host has ended."""
        if self.members.get(member.id) is not member:
            return
        del self.members[member.id]
        self._known[member.id] = code
        self._unanswered = {one for one in self._unanswered if one[0] != member.id}
        self._unacknowledged[member.id] = code
        self.send(c.Ended(member.id, code, ""))

    def kill(self, member_id: bytes, number: int, *, stale: bool = False) -> None:
        """A signal to a process; `stale`: nothing is to be heard of its end."""
        member = self.members.get(member_id)
        if member is None or member.is_root:
            return
        member.die(-number)
        if stale:
            self._unacknowledged.pop(member_id, None)

    def die(self) -> None:
        """Kill -9, or the end of the machine: every process but a root on a living host dies."""
        self.alive = False
        self.link, link = None, self.link
        if link is not None:
            link.near_open = False
            link.sever(0.0, self._world.random.random() * 3.0)
        for member in list(self.members.values()):
            member.lost_agent()
