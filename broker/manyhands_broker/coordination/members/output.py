"""What members write, on its way to the root; and what may not overtake it.

A parent hears of a member's end only behind everything that the member wrote and that the root can
still get. Else a root could print what follows from that end, and exit, before the output has come.

On one link the order does that by itself. A lost link takes output along. The broker asks the member's
agent for it when the root has a new link, and the end waits here. It waits `Limits.output_wait` at
most, for the member's host may be lost too.
"""

from __future__ import annotations

from manyhands_broker.coordination.model import Agent, Member, Output
from manyhands_broker.coordination.state import CoordinationState
from manyhands_shared.payloads.payload import total
from manyhands_shared.protocol.messages.coordination import (
    Ended,
    OutputTaken,
    ProcessOutput,
)


class OutputOrder:
    """Passes output on in its order, and tells parents of ends behind it."""

    def __init__(self, state: CoordinationState) -> None:
        self._state = state

    def wrote(self, member: Member, root: Member, message: ProcessOutput) -> None:
        """Pass on what a member wrote, unless the root lacks what comes before: it is said again."""
        output = member.output.get(message.stream)
        if output is None:
            # Its agent begins with what the root has not taken.
            output = Output(message.at, message.at, message.at)
            member.output[message.stream] = output
        elif output.passed is None:
            output.taken = output.passed = max(output.taken, message.at)
        assert output.passed is not None
        end = message.at + total(message.bodies)
        output.said = max(output.said, end)
        if message.at < end == output.taken:
            # The receipt was lost with a link.
            writer = self._state.agents[member.writer]
            taken = OutputTaken(member.id, message.stream, output.taken)
            self._state.send(writer.peer, taken)
        elif message.at <= output.passed and _is_linked(root):
            self._state.tell(root, message)
            output.passed = max(output.passed, end)
            self._go_on(member)

    def taken(self, member: Member, message: OutputTaken) -> bool:
        """Take note of what the root has; return whether that is news to the log."""
        output = member.output.get(message.stream)
        if output is None:
            return False
        lacked = output.taken < output.said
        output.taken = max(output.taken, message.until)
        output.passed = max(output.passed or 0, output.taken)
        self._go_on(member)
        return lacked and output.taken >= output.said and not member.living

    def root_linked(self, root: Member, agent: Agent) -> None:
        """Have the output said again that was lost with the link to a program's root."""
        state = self._state
        for member in root.program.members.values():
            writer = state.agents.get(member.writer)
            for stream, output in member.output.items():
                if output.passed is None:
                    continue
                output.passed = output.taken
                # The root's agent itself says what it has again with its link.
                if output.taken < output.said and writer is not None and writer is not agent:
                    state.send(writer.peer, OutputTaken(member.id, stream, output.taken))
            if member.behind_output is not None:
                self._wait(member)

    def may_tell(self, member: Member) -> bool:
        """Whether a parent may hear now that a member has ended; if not, it is told later."""
        if member.behind_output is None and self._is_lacking(member):
            self._wait(member)
        return member.behind_output is None

    def _is_lacking(self, member: Member) -> bool:
        """Whether the root lacks output of a member that it can get."""
        root = self._state.members.get(member.program.root)
        if member.program.ending or root is None or root is member or not root.living:
            return False
        linked = _is_linked(root)
        for output in member.output.values():
            has = output.taken if output.passed is None or not linked else output.passed
            if has < output.said:
                return True
        return False

    def _wait(self, member: Member) -> None:
        """Have a parent not hear of an end yet; not for ever, once the root has a link."""
        at = member.behind_output = self._state.now + self._state.limits.output_wait
        self._state.timers.await_peer(at, lambda _now: self._give_up(member, at))

    def _give_up(self, member: Member, waits_until: float) -> None:
        root = self._state.members.get(member.program.root)
        if member.behind_output != waits_until:
            return
        # Without a link of the root its grace decides.
        if root is None or _is_linked(root):
            member.output.clear()
            self._go_on(member)

    def _go_on(self, member: Member) -> None:
        """Tell a parent of an end that has waited for output, if nothing stands in the way any more."""
        if member.behind_output is None or self._is_lacking(member):
            return
        member.behind_output = None
        parent = self._state.members.get(member.parent)
        if parent is not None and parent.living:
            self._state.tell(parent, Ended(member.id, member.code, member.reason))


def _is_linked(root: Member) -> bool:
    return root.agent is not None and root.agent.peer is not None
