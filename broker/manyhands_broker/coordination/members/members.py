"""What agents say of members: starts, ends, signals, output."""

from __future__ import annotations

from manyhands_broker.coordination.members.lifecycle import LOST, Lifecycle
from manyhands_broker.coordination.members.placing import Placing
from manyhands_broker.coordination.model import NO_PARENT, Agent, Member, Phase, Program
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.coordination.identity import is_proof
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages.coordination import (
    AgentWanted,
    Began,
    Ended,
    ExitAcknowledged,
    MemberHello,
    OutputTaken,
    Placed,
    ProcessOutput,
    Start,
)

_NAME_CHARS = 200


class Members:
    """Members: how they are started and speak, and how their ends are told."""

    def __init__(self, state: CoordinationState, placing: Placing, lifecycle: Lifecycle) -> None:
        self._state = state
        self._placing = placing
        self._lifecycle = lifecycle

    def hello(self, agent: Agent, message: MemberHello) -> None:
        """Let a process speak as a member; one that nothing started is a pool's child."""
        state = self._state
        program = state.programs.get(message.program)
        error = ""
        if program is None or program.ending:
            error = "its program has ended"
        elif not is_proof(program.member_key, message.member, message.proof):
            state.counters["refused_proofs"] += 1
            error = "it does not know the secret of its program"
        else:
            member = state.members.get(message.member)
            if member is None:
                error = self._full(program)
                if not error:
                    self._lifecycle.introduce(agent, program)
                    member = Member(message.member, program, NO_PARENT)
                    member.name, member.host = "pool child", agent.host
                    self._lifecycle.add(member, agent)
                    self._lifecycle.began(member, message.pid)
            elif member.agent is not agent or not member.living or member.program is not program:
                error = "it is not a member on this host"
        if error:
            state.send(agent.peer, Placed(message.member, agent.host, agent.node, error))

    def start(self, agent: Agent, message: Start, now: float) -> None:
        """Place a new member and have it started; say again what became of one that is known."""
        state = self._state
        parent = state.members.get(message.parent)
        if parent is None or parent.agent is not agent or parent.program.id != message.program:
            self._refuse(agent, message, "its starter is not a member on this host")
            return
        known = state.members.get(message.member)
        if known is not None:
            self._start_again(agent, known, message)
            return
        program = parent.program
        error = "its program has ended" if program.ending or not parent.living else ""
        error = error or self._full(program) or self._no_room(message)
        host = ""
        if not error:
            host, error = self._placing.choose(message.options)
        if error:
            self._refuse(agent, message, error)
            return
        member = Member(message.member, program, parent.id)
        member.name = str(message.options.get("name", ""))[:_NAME_CHARS]
        member.host, member.since = host, now
        self._lifecycle.keep_start(member, message)
        there = state.hosting.get(host)
        there = None if there is None or there.expired else there
        node = self._placing.node_on(host)
        member.node = there.node if there is not None else node.name if node is not None else ""
        self._lifecycle.add(member, there)
        state.counters["members_placed"] += 1
        state.send(agent.peer, Placed(member.id, host, member.node, ""))
        if there is not None:
            self._lifecycle.send_start(member)
        else:
            self.await_agent(member, now)

    def await_agent(self, member: Member, now: float) -> None:
        """Have the agent of a member's host started; it has some time for that."""
        node = self._placing.node_on(member.host)
        if node is not None:
            self._state.send(node.peer, AgentWanted(member.host))
        at = now + self._state.limits.agent_wait
        self._state.timers.await_peer(at, lambda _now: self._no_agent(member))

    def _start_again(self, agent: Agent, member: Member, message: Start) -> None:
        """Answer a repeated start: its first answer, or what came of it, was lost with a link."""
        state = self._state
        if member.parent != message.parent:
            self._refuse(agent, message, "another process has this id")
            return
        state.send(agent.peer, Placed(member.id, member.host, member.node, ""))
        match member.phase:
            case Phase.PLACED | Phase.STARTING:
                if member.start is None:
                    self._lifecycle.keep_start(member, message)
                    # The broker was restarted and has it from its log alone: its agent obeys once.
                    self._lifecycle.send_start(member)
            case Phase.RUNNING:
                state.send(agent.peer, Began(member.id, member.pid))
            case Phase.ENDED if self._lifecycle.output.may_tell(member):
                state.send(agent.peer, Ended(member.id, member.code, member.reason))

    def began(self, agent: Agent, message: Began) -> None:
        """Take note that a member runs."""
        member = self._here(agent, message.member)
        if member is not None and member.phase in (Phase.PLACED, Phase.STARTING):
            self._lifecycle.began(member, message.pid)

    def ended(self, agent: Agent, message: Ended) -> None:
        """Take note that a member has ended, and tell the agent that it need not say so again."""
        member = self._here(agent, message.member)
        if member is not None:
            self._lifecycle.end(member, message.code, message.reason)
        self._state.send(agent.peer, ExitAcknowledged(message.member))

    def acknowledged(self, agent: Agent, message: ExitAcknowledged) -> None:
        """Forget a member whose end its parent knows."""
        member = self._state.members.get(message.member)
        if member is None or member.living:
            return
        parent = self._state.members.get(member.parent)
        if parent is None or parent.agent is agent:
            self._lifecycle.forget(member)

    def signal(self, sender: Member, target: bytes, number: int) -> None:
        """Pass a signal on, from a member of the same program."""
        member = self._state.members.get(target)
        if member is None or not member.living:
            return
        if member.program is not sender.program:
            self._state.counters["refused_signals"] += 1
            return
        self._lifecycle.signal(member, number)

    def output(self, agent: Agent, message: ProcessOutput) -> None:
        """Pass on what a member wrote, to its root."""
        program = self._state.programs.get(message.program)
        member = self._state.members.get(message.member)
        if program is None or (
            member is not None and (member.writer != agent.id or member.program is not program)
        ):
            self._state.counters["refused_output"] += 1
            return
        root = self._state.members.get(program.root)
        if root is not None and member is not None:
            self._lifecycle.output.wrote(member, root, message)
        elif root is not None:
            self._state.tell(root, message)

    def output_taken(self, agent: Agent, message: OutputTaken) -> None:
        """Pass on how much of a member's output the root has."""
        member = self._state.members.get(message.member)
        if member is None:
            return
        root = self._state.members.get(member.program.root)
        if root is not None and root.agent is agent:
            output = member.output.get(message.stream)
            is_news = output is None or message.until > output.taken
            if self._lifecycle.output.taken(member, message):
                self._lifecycle.record(member)
            writer = self._state.agents.get(member.writer)
            # A receipt that is none asks for everything behind it.
            if writer is not None and is_news:
                self._state.send(writer.peer, message)

    def _here(self, agent: Agent, member_id: bytes) -> Member | None:
        """Return a living member for which the agent speaks."""
        member = self._state.members.get(member_id)
        if member is None or member.agent is not agent or not member.living:
            return None
        return member

    def _full(self, program: Program) -> str:
        most = self._state.limits.program_members
        if len(program.members) < most:
            return ""
        return f"the program has {most:,} processes, the most it may have"

    def _no_room(self, message: Start) -> str:
        """Return why a process cannot be kept until it has begun; empty if it can."""
        limits = self._state.limits
        used = self._state.used_bytes + self._state.start_bytes
        if used + total(message.bodies) <= limits.coordination_bytes:
            return ""
        return (
            f"what starts it does not fit the broker's room of {limits.coordination_bytes >> 20} MiB; "
            "start fewer at once, or raise --coordination-bytes there"
        )

    def _refuse(self, agent: Agent, message: Start, error: str) -> None:
        self._state.counters["starts_refused"] += 1
        self._state.send(agent.peer, Placed(message.member, "", "", error))

    def _no_agent(self, member: Member) -> None:
        """Give up a member whose host has no agent after all."""
        if member.living and member.agent is None:
            reason = f"the host agent of node {member.node} did not start; see that node's log"
            self._lifecycle.end(member, LOST, reason)
