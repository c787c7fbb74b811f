"""Deliberate faults of the software, to prove that the simulator would notice."""

from __future__ import annotations

from typing import Any

from manyhands_broker.coordination.coordinator import Coordinator
from manyhands_shared.protocol.messages.coordination import Start
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.events import ReadAll

HARMS = (
    "answers before the log",  # see `Broker._perform`
    "a second start is obeyed",
    "leases are ignored",
    "no undo of a late grant",
    "a lost link takes the processes",
    "an end is told once",
    "an end overtakes output",
    "a recall does not look",
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
