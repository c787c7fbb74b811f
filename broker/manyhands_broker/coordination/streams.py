"""Streams: bytes between two ends of a pipe that are on different hosts.

The broker passes messages on between the two agents and keeps none of the bytes. Each agent has what
the other has not taken, and says it again over a new link. The broker knows which agents a stream
joins, so that the one is told when the other is lost. That knowledge is not in the log: after a restart
each agent says what it has.
"""

from __future__ import annotations

from manyhands_broker.coordination.model import Agent
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.protocol.messages.coordination import (
    FORGOTTEN,
    GONE,
    Flow,
    Grant,
    Open,
    Opened,
    Shut,
)

#: Streams with an end at one agent, and claims that it has not answered: more than it has descriptors.
MAX_STREAMS = 65_536
_TOO_MANY = f"its host has {MAX_STREAMS:,} ends of pipes on other hosts, the most it may have"
_LOST = "the process that has the other end is gone with its host"


class Streams:
    """Passes on what agents say to each other."""

    def __init__(self, state: CoordinationState) -> None:
        self._state = state
        #: Streams without another end, until it is certain that no agent comes that has it.
        self._doubtful: dict[tuple[bytes, bytes], Agent] = {}

    def open(self, agent: Agent, message: Open) -> None:
        """Pass a claim on to the agent that has the end."""
        state = self._state
        member = state.members.get(message.member)
        if member is None or member.agent is not agent or member.program.id != message.program:
            state.counters["refused_streams"] += 1
            self._refuse(agent, message, "its claimer is not a member of the program on this host")
            return
        holder = state.agents.get(message.agent)
        if holder is None:
            if self._may_come():
                at = state.started + state.limits.lease
                state.timers.at(at, lambda _now: self.open(agent, message))
            else:
                self._refuse(agent, message, _LOST)
            return
        onward = Open(
            message.stream, message.end, message.member, message.program, agent.id, message.way
        )
        if len(holder.claims) >= MAX_STREAMS or not self._join(message.stream, agent, holder):
            self._refuse(agent, message, _TOO_MANY)
            return
        # Until its answer, for the case that a link loses either.
        holder.claims[message.stream] = onward
        state.send(holder.peer, onward)

    def _refuse(self, agent: Agent, message: Open, why: str) -> None:
        """Tell a claim's agent why there is no stream, and the agent that has taken it up already.

        A claim may come again. Its claimer may have ended since, or the answer was lost with a link.
        """
        stream = message.stream
        self._state.send(agent.peer, Opened(stream, message.agent, 0, why))
        if self._joins(stream, agent):
            for other in self._state.streams[stream]:
                if other is not agent:
                    other.claims.pop(stream, None)
                    self._state.send(other.peer, Shut(stream, agent.id, GONE, 0))
            self._part(stream)

    def opened(self, agent: Agent, message: Opened) -> None:
        """Pass on that a stream is open at its sender's, or why not."""
        agent.claims.pop(message.stream, None)
        other = self._state.agents.get(message.agent)
        if other is None:
            self._lost(agent, message.stream)
            return
        if message.error:
            self._part(message.stream)
        elif not self._join(message.stream, agent, other):
            self._state.send(agent.peer, Shut(message.stream, agent.id, GONE, 0))
            return
        answer = Opened(message.stream, agent.id, message.until, message.error)
        self._state.send(other.peer, answer)

    def flow(self, agent: Agent, message: Flow) -> None:
        """Pass bytes on."""
        other = self._other(agent, message.stream, message.agent)
        if other is not None:
            onward = Flow(message.stream, agent.id, message.at, message.bodies)
            # What is read there may say that memory was written.
            for program in other.programs:
                self._state.before_telling(other, program)
            self._state.send(other.peer, onward)

    def grant(self, agent: Agent, message: Grant) -> None:
        """Pass on how much was taken."""
        other = self._other(agent, message.stream, message.agent)
        if other is not None:
            self._state.send(other.peer, Grant(message.stream, agent.id, message.until))

    def shut(self, agent: Agent, message: Shut) -> None:
        """Pass on that a way of a stream is over; take note when it is forgotten."""
        if message.way == FORGOTTEN:
            if self._joins(message.stream, agent):
                self._part(message.stream)
            return
        other = self._other(agent, message.stream, message.agent)
        if other is not None:
            onward = Shut(message.stream, agent.id, message.way, message.at)
            self._state.send(other.peer, onward)

    def catch_up(self, agent: Agent) -> None:
        """Say again what an agent has not answered."""
        for message in agent.claims.values():
            self._state.send(agent.peer, message)

    def lost(self, agent: Agent) -> None:
        """An agent is gone: tell those at the other ends."""
        for stream in list(agent.streams):
            one, two = self._state.streams[stream]
            other = two if one is agent else one
            unanswered = stream in agent.claims
            self._part(stream)
            if unanswered:
                self._state.send(other.peer, Opened(stream, agent.id, 0, _LOST))
            else:
                self._state.send(other.peer, Shut(stream, agent.id, GONE, 0))
        agent.claims.clear()

    def _other(self, agent: Agent, stream: bytes, other_id: bytes) -> Agent | None:
        """Return the agent at the other end; tell this one if there is none."""
        other = self._state.agents.get(other_id)
        if other is None or not self._joins(stream, agent):
            # After a restart neither has said yet what it has: what is lost is said again.
            self._lost(agent, stream)
            return None
        return other

    def _joins(self, stream: bytes, agent: Agent) -> bool:
        return agent in self._state.streams.get(stream, ())

    def _lost(self, agent: Agent, stream: bytes) -> None:
        """Tell an agent that a stream is gone, as soon as that is certain."""
        if not self._may_come():
            self._state.send(agent.peer, Shut(stream, agent.id, GONE, 0))
            return
        if not self._doubtful:
            at = self._state.started + self._state.limits.lease
            self._state.timers.await_peer(at, lambda _now: self._judge())
        self._doubtful[agent.id, stream] = agent

    def _judge(self) -> None:
        """No agent comes any more that the log does not name: streams that it had an end of are gone."""
        doubtful, self._doubtful = self._doubtful, {}
        for (agent_id, stream), agent in doubtful.items():
            if stream not in self._state.streams and self._state.agents.get(agent_id) is agent:
                self._state.send(agent.peer, Shut(stream, agent.id, GONE, 0))

    def _may_come(self) -> bool:
        """Whether agents may still come back that the log does not name."""
        return self._state.now < self._state.started + self._state.limits.lease

    def _join(self, stream: bytes, one: Agent, two: Agent) -> bool:
        """Note which agents a stream joins; false if one of them has too many."""
        if stream not in self._state.streams:
            if max(len(one.streams), len(two.streams)) >= MAX_STREAMS:
                self._state.counters["refused_streams"] += 1
                return False
            self._state.streams[stream] = one, two
            one.streams.add(stream)
            two.streams.add(stream)
        return True

    def _part(self, stream: bytes) -> None:
        for agent in self._state.streams.pop(stream, ()):
            agent.streams.discard(stream)
