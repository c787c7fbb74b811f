"""Host agents: how they come in, keep their lease, and what is lost with them.

An agent's lease runs from the last message that the broker had of it. It stops its members (SIGSTOP)
before that, so what they held can be given to others when the lease is over. The exception are programs
whose root is on the same host: the broker cannot tell their silence from the root's. They have the
root's grace, and the whole program ends with it.

A link that closes takes nothing, for the host may be there and its members at work. What they hold is
theirs until the lease is over. Or until the node says that its agent has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from manyhands_broker.coordination.members.lifecycle import LOST, Lifecycle
from manyhands_broker.coordination.members.placing import Nodes
from manyhands_broker.coordination.members.programs import Programs
from manyhands_broker.coordination.model import Agent, Member, Phase
from manyhands_broker.coordination.state import CoordinationState
from manyhands_broker.coordination.streams import Streams
from manyhands_broker.core.model.identity import Identity
from manyhands_shared.coordination.identity import NO_ID
from manyhands_shared.protocol.messages import PROTOCOL_VERSION, Ping, Refused, Renew
from manyhands_shared.protocol.messages import Lease as LeaseMessage
from manyhands_shared.protocol.messages.coordination import (
    RUNNING,
    AgentAt,
    AgentEnded,
    AgentHello,
    AgentWelcome,
)

_Rival = tuple[bytes, AgentHello, Identity]


class Agents:
    """Agents: hello, lease, and end."""

    def __init__(
        self,
        state: CoordinationState,
        nodes: Nodes,
        programs: Programs,
        lifecycle: Lifecycle,
        streams: Streams,
    ) -> None:
        self._state = state
        self._nodes = nodes
        self._programs = programs
        self._lifecycle = lifecycle
        self._streams = streams
        #: Hellos for a host that has an agent, until that one has proved dead or alive.
        self._rivals: dict[str, _Rival] = {}
        lifecycle.agent_gone = self._drop

    # Coming in

    def hello(self, peer: bytes, hello: AgentHello, who: Identity, now: float) -> None:
        """Let an agent in, over its first link or a later one."""
        state = self._state
        here = state.agent_of.get(peer)
        if refusal := self._refusal(hello, who, here):
            state.counters["refused_agents"] += 1
            state.send(peer, refusal)
            return
        agent = state.agents.get(hello.agent)
        if agent is not None and (agent.host != hello.host or agent.who.key not in ("", who.key)):
            state.send(peer, Refused("bad-hello", "another host agent has this id"))
            return
        if agent is None and hello.node:
            there = state.hosting.get(hello.host)
            if there is not None and not there.expired:
                # Two nodes of a host, or a node that was started again: one of the agents is to stay.
                self._rivals[hello.host] = (peer, hello, who)
                state.send(there.peer, Ping(0))
                return
            if there is not None:
                self.condemn(there, "another host agent took its place")
        if agent is None:
            agent = Agent(hello.agent, hello.host, hello.node)
            agent.who = who
            self.add(agent)
            self._check_lease_at(agent, now + state.limits.lease)
            state.counters["agents_joined"] += 1
        self._link(agent, peer, hello, who, now)
        keep = self._settle(agent, hello)
        limits = state.limits
        welcome = AgentWelcome(
            PROTOCOL_VERSION,
            state.broker_id,
            limits.lease,
            limits.renew_interval,
            b"".join(member.id for member in keep),
        )
        state.send(peer, welcome)
        # Before the welcome the agent takes nothing.
        self._lifecycle.linked(agent)
        # Roots first: what went to them over another link may not have come.
        for member in sorted(agent.members, key=lambda one: not one.is_root):
            self._lifecycle.catch_up(agent, member)
        self._streams.catch_up(agent)

    def add(self, agent: Agent) -> None:
        """Take in an agent, new or from the log."""
        self._state.agents[agent.id] = agent
        self._state.agents_by_key[agent.who.key] += 1
        if agent.hosts:
            self._state.hosting[agent.host] = agent

    def restored(self, agent: Agent, now: float) -> None:
        """Wait for an agent that is known from the log alone."""
        agent.lease_until = now + self._state.limits.lease
        self._check_lease_at(agent, agent.lease_until)
        self._roots_lost(agent, now)

    def _refusal(self, hello: AgentHello, who: Identity, here: Agent | None) -> Refused | None:
        """Return why an agent is not let in."""
        if hello.protocol != PROTOCOL_VERSION:
            return Refused(
                "protocol",
                f"the broker speaks protocol {PROTOCOL_VERSION} and this host agent {hello.protocol}; "
                "install the same version of manyhands on both",
            )
        if not hello.host or hello.agent == NO_ID:
            return Refused("bad-hello", "a host agent needs a host and an id")
        if not who.works and (hello.node or hello.capacity):
            reason = f"the key {who.name or 'used'} is a {who.role}'s: a host takes a worker's"
            return Refused("role", reason)
        if here is not None and here.id != hello.agent:
            return Refused("bad-hello", "this link is another host agent's")
        most = self._state.limits.key_agents
        if hello.agent not in self._state.agents and self._state.agents_by_key[who.key] >= most:
            return Refused("full", f"this key has {most:,} host agents, the most it may have")
        return None

    def _link(
        self, agent: Agent, peer: bytes, hello: AgentHello, who: Identity, now: float
    ) -> None:
        state = self._state
        if agent.peer is not None and agent.peer != peer:
            state.agent_of.pop(agent.peer, None)
            state.forget(agent.peer)
        state.agents_by_key[agent.who.key] -= 1
        state.agents_by_key[who.key] += 1
        agent.peer, agent.who = peer, who
        agent.node, agent.address, agent.info = hello.node, hello.address, hello.info
        agent.capacity = hello.capacity
        agent.told.clear()
        agent.expired = False
        agent.lease_until = now + state.limits.lease
        state.agent_of[peer] = agent
        self._answer_rival(agent.host)

    def _settle(self, agent: Agent, hello: AgentHello) -> list[Member]:
        """Compare what the agent has with what it should have; return the members that go on."""
        state, lifecycle = self._state, self._lifecycle
        keep: list[Member] = []
        said: set[bytes] = set()
        for one in hello.members:
            member = state.members.get(one.member)
            if member is None or not member.living or member.program.id != one.program:
                continue
            orphaned = member.agent is None and member.is_root and member.host == agent.host
            if member.agent is not agent and not orphaned:
                continue
            if orphaned:
                lifecycle.attach(member, agent)
                lifecycle.record(member)
            said.add(member.id)
            keep.append(member)
            if member.phase in (Phase.PLACED, Phase.STARTING):
                member.phase = Phase.STARTING
                if one.phase == RUNNING:
                    lifecycle.began(member, one.pid)
        for member in [one for one in agent.members if one.id not in said]:
            if member.phase in (Phase.PLACED, Phase.STARTING):
                # The order to start it was lost with a link; it is obeyed once.
                member.phase = Phase.PLACED
                lifecycle.cannot_start(member)
            elif member.living:
                lifecycle.end(member, LOST, "its host agent does not know it", host_lost=True)
        for member in list(state.awaiting.pop(agent.host, ())) if agent.hosts else ():
            lifecycle.attach(member, agent)
            lifecycle.record(member)
        return [member for member in keep if member.living]

    # Staying

    def renew(self, agent: Agent, message: Renew) -> None:
        """Answer a renewal. `window` is how many processes it may start."""
        agent.capacity = message.window
        self._state.send(agent.peer, LeaseMessage(message.counter))

    def alive(self, agent: Agent) -> None:
        """Take note of the answer to a ping: another agent for the host is refused."""
        self._answer_rival(agent.host)

    def _answer_rival(self, host: str) -> None:
        rival = self._rivals.pop(host, None)
        if rival is not None:
            peer, hello, _ = rival
            agent, node = self._state.hosting.get(host), self._nodes.by_name.get(hello.node)
            if agent is not None and node is not None and node.host_id == host:
                self._state.send(node.peer, AgentAt(agent.address))
            reason = "this host has an agent already, of another node"
            self._state.send(peer, Refused("agent-taken", reason))

    # Going

    def link_closed(self, agent: Agent, now: float) -> None:
        """Take note that an agent has no link: its lease decides."""
        state = self._state
        if agent.peer is None:
            return
        state.agent_of.pop(agent.peer, None)
        state.forget(agent.peer)
        agent.peer = None
        self._roots_lost(agent, now)
        if self._lifecycle.is_idle(agent):
            # Nothing is lost with it.
            self._drop(agent)

    def ended(self, peer: bytes, message: AgentEnded) -> None:
        """Take note that a node's agent has ended, or could not be started."""
        state = self._state
        node = self._nodes.by_peer.get(peer)
        if node is None or node.host_id != message.host:
            state.counters["unexpected_messages"] += 1
            return
        agent = state.hosting.get(message.host)
        reason = message.reason or "its host agent has ended"
        if agent is not None and agent.id == message.agent:
            self.condemn(agent, reason)
        elif message.agent == NO_ID:
            for member in list(state.awaiting.get(message.host, ())):
                if member.living:
                    self._lifecycle.end(member, LOST, reason)

    def condemn(self, agent: Agent, why: str, *, lost: bool = True) -> None:
        """Forget an agent: its members are gone, but roots may come back behind another."""
        state = self._state
        if state.agents.get(agent.id) is not agent:
            return
        if agent.peer is not None:
            state.agent_of.pop(agent.peer, None)
            state.forget(agent.peer)
            agent.peer = None
        lost = lost and bool(agent.members)
        for member in list(agent.members):
            if member not in agent.members:
                continue  # it ended with its program
            if member.is_root and agent.hosts:
                del agent.members[member]
                member.agent, member.writer = None, NO_ID
                self._programs.root_lost(member.program, state.now)
            else:
                self._lifecycle.end(member, LOST, why, host_lost=True)
        state.counters["agents_condemned"] += 1
        level = logging.WARNING if lost else logging.INFO
        state.say(level, f"the host agent of node {agent.node or '-'} is gone: {why}")
        self._drop(agent)

    def left(self, agent: Agent, reason: str) -> None:
        """Take note of an agent that leaves for good."""
        self.condemn(agent, reason or "its host agent has left", lost=False)

    def stalled(self, seconds: float) -> None:
        """Extend every lease by the time in which the broker could not hear."""
        for agent in self._state.agents.values():
            agent.lease_until += seconds

    def keys_changed(self, known: Mapping[str, Identity]) -> None:
        """Cut off the agents whose keys are not let in any more, and those that wait for a place."""
        for host, (peer, _, waiting) in list(self._rivals.items()):
            who = known.get(waiting.key)
            if waiting.key and (who is None or not who.works):
                del self._rivals[host]
                reason = f"the key {waiting.name} was revoked"
                self._state.send(peer, Refused("revoked", reason))
        for agent in list(self._state.agents.values()):
            who = known.get(agent.who.key)
            if not agent.who.key or (who is not None and (who.works or not agent.hosts)):
                continue
            reason = f"the key {agent.who.name} was revoked"
            self._state.send(agent.peer, Refused("revoked", reason))
            self.condemn(agent, reason, lost=False)

    def _roots_lost(self, agent: Agent, now: float) -> None:
        for member in agent.members:
            if member.is_root:
                self._programs.root_lost(member.program, now)

    def _check_lease_at(self, agent: Agent, until: float) -> None:
        self._state.timers.at(until, lambda at: self._lease_check(agent, at))

    def _lease_check(self, agent: Agent, now: float) -> None:
        state = self._state
        if state.agents.get(agent.id) is not agent:
            return
        if now < agent.lease_until:
            self._check_lease_at(agent, agent.lease_until)
            return
        if not agent.expired:
            self._expire(agent, now)
        # Else it was cut off with a root, whose grace decides; and a new link begins a new lease.
        if state.agents.get(agent.id) is agent:
            self._check_lease_at(agent, now + state.limits.lease)

    def _expire(self, agent: Agent, now: float) -> None:
        """End what a host had that was not heard of for a lease."""
        state = self._state
        agent.expired = True
        state.counters["agents_lost"] += 1
        state.say(logging.WARNING, f"the host agent of node {agent.node or '-'} lost its lease")
        if agent.peer is not None:
            state.agent_of.pop(agent.peer, None)
            state.forget(agent.peer)
            agent.peer = None
            self._roots_lost(agent, now)
        rooted = {member.program for member in agent.members if member.is_root}
        for member in list(agent.members):
            if member in agent.members and member.program not in rooted:
                reason = "its host was not heard of for a lease"
                self._lifecycle.end(member, LOST, reason, host_lost=True)
        if not agent.members:
            self._drop(agent)
        self._admit_rival(agent.host)

    def _drop(self, agent: Agent) -> None:
        """Forget an agent, and let another in that waits for its place."""
        state = self._state
        if state.agents.pop(agent.id, None) is None:
            return
        state.agents_by_key[agent.who.key] -= 1
        self._streams.lost(agent)
        self._lifecycle.forget_memory(agent)
        if state.hosting.get(agent.host) is agent:
            del state.hosting[agent.host]
        self._admit_rival(agent.host)

    def _admit_rival(self, host: str) -> None:
        """Let an agent in that waits for the place of another, when this event is over."""
        rival = self._rivals.pop(host, None)
        if rival is not None:
            self._state.timers.at(self._state.now, lambda now: self.hello(*rival, now))
