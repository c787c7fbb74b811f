"""Deliberate faults of the software, to prove that the simulator would notice."""

from __future__ import annotations

from typing import Any

from manyhands_broker.coordination.coordinator import Coordinator
from manyhands_broker.coordination.model import Agent, Program
from manyhands_shared.protocol.messages.coordination import Flow, Start
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.events import ReadAll
from manyhands_worker.agent.core.memory.segment import Segment

HARMS = (
    "answers before the log",  # see `Broker._perform`
    "a second start is obeyed",
    "leases are ignored",
    "no undo of a late grant",
    "a lost link takes the processes",
    "an end is told once",
    "an end overtakes output",
    "a recall does not look",
    "a release overtakes what was written",
    "what is on its way is overwritten",
    "a local write is overwritten",
    "an answer overtakes what others wrote",
    "a lost agent leaves its numbers in the log",
    "a lost link takes bytes of a stream",
    "an agent passes on what it was sent twice",
)


def harm_coordinator(harm: str, coordinator: Coordinator) -> None:
    """Do it to a coordinator."""
    objects: Any = coordinator.objects
    agents: Any = coordinator._agents
    if harm == "no undo of a late grant":
        withdraw = objects.withdraw

        def withdraw_waiting(member: Any, message: Any, now: float) -> None:
            if message.number in member.waiting:
                withdraw(member, message, now)

        objects.withdraw = withdraw_waiting
    elif harm == "a lost link takes the processes":
        link_closed = agents.link_closed

        def expire_at_once(agent: Any, now: float) -> None:
            link_closed(agent, now)
            if coordinator.state.agents.get(agent.id) is agent:
                agents._expire(agent, now)

        agents.link_closed = expire_at_once
    elif harm == "an end is told once":
        lifecycle: Any = coordinator._lifecycle
        catch_up = lifecycle.catch_up

        def forget_ends(agent: Any, member: Any) -> None:
            children, member.children = member.children, {}
            catch_up(agent, member)
            member.children = children

        lifecycle.catch_up = forget_ends
    elif harm == "an end overtakes output":
        order: Any = coordinator._lifecycle.output
        order.may_tell = lambda _member: True
    elif harm == "an answer overtakes what others wrote":
        state, bring = coordinator.state, coordinator.memory.bring

        def bring_late(agent: Agent, program: Program) -> None:
            state.timers.at(state.now + 0.02, lambda _: bring(agent, program))

        state.before_telling = bring_late
    elif harm == "a lost agent leaves its numbers in the log":
        memory: Any = coordinator.memory
        agent_gone = memory.agent_gone

        def leave_numbers(agent: bytes) -> None:
            for one in memory.programs.values():
                one.seen.pop(agent, None)
            agent_gone(agent)

        memory.agent_gone = leave_numbers


def harm_agent(harm: str, core: AgentCore) -> None:
    """Do it to a host agent."""
    tables: Any = core._tables
    if harm == "leases are ignored":
        tables.freeze = lambda: setattr(tables, "frozen", True)
    elif harm == "a second start is obeyed":
        ready: Any = core._ready
        start = ready[Start]

        def start_again(message: Start) -> None:
            tables.members.pop(message.member, None)
            start(message)

        ready[Start] = start_again
    elif harm == "a recall does not look":
        read = core._handlers[ReadAll]
        core._handlers[ReadAll] = lambda event: read(
            ReadAll(event.member, event.key, event.number, 0)
        )
    elif harm == "a release overtakes what was written":
        mirrors: Any = core._mirrors
        mirrors.leaving = tables.leaving = lambda _: None
    elif harm == "a lost link takes bytes of a stream":
        core._streams.welcomed = lambda: None  # type: ignore[method-assign]
    elif harm == "an agent passes on what it was sent twice":
        flow = core._ready[Flow]

        def flow_twice(message: Flow) -> None:
            stream = core._streams._streams.get(message.stream)
            if stream is not None:
                stream.received = min(stream.received, message.at)
            flow(message)

        core._ready[Flow] = flow_twice
    elif harm == "what is on its way is overwritten":
        _make_segments(core, _Overwritten)
    elif harm == "a local write is overwritten":
        _make_segments(core, _Undone)


class _Overwritten(Segment):
    """A segment that takes the broker's word where its own writes are on their way."""

    __slots__ = ()

    def _is_free(self, begin: int, end: int) -> bool:
        del begin, end
        return True


class _Undone(Segment):
    """A segment that does not look whether a member has written."""

    __slots__ = ()

    def apply(self, begin: int, data: memoryview) -> None:
        assert self.host is not None
        end = begin + len(data)
        self.host.memory[begin:end] = self.host.twin[begin:end] = data


def _make_segments(core: AgentCore, kind: type[Segment]) -> None:
    mirrors: Any = core._mirrors
    enter = mirrors._enter

    def enter_broken(key: bytes, program: bytes) -> Segment:
        made: Segment = enter(key, program)
        made.__class__ = kind
        return made

    mirrors._enter = enter_broken
