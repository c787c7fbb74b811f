"""A host agent's lease: at its end members of roots elsewhere are stopped, and what lets them go on."""

from __future__ import annotations

import signal

import pytest

from harness.worlds.memory import Memories
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c
from manyhands_worker.agent.core import effects, events
from manyhands_worker.agent.core.agent_core import AgentCore
from manyhands_worker.agent.core.identity import AgentIdentity

MEMBER, ROOT, PROGRAM = b"1" * 16, b"R" * 16, b"P" * 16
LEASE = 10.0


class Agent:
    """An agent with one process, whose root is elsewhere."""

    def __init__(self) -> None:
        self.core = AgentCore(
            AgentIdentity(b"a" * 16, "host", "node", b"n" * 16, "@a", 10), Memories()
        )
        self.signals: list[int] = []
        self.sent: list[m.Message] = []
        self.at(0.0, events.LinkUp())
        self.hear(0.0, c.AgentWelcome(m.PROTOCOL_VERSION, b"B" * 16, LEASE, 2.5, b""))
        self.hear(0.0, c.Start(MEMBER, ROOT, PROGRAM, {"name": "p"}, b"", [b"work"]))

    def at(self, now: float, *what: events.Event) -> None:
        """Have events happen."""
        for event in (*what, events.Tick()):
            for effect in self.core.handle(event, now):
                if isinstance(effect, effects.Kill):
                    self.signals.append(effect.number)
                elif isinstance(effect, effects.Send):
                    self.sent.append(effect.message)
        self.core.validate()

    def hear(self, now: float, message: m.Message) -> None:
        """Have the broker say something."""
        self.at(now, events.Received(message))


@pytest.fixture
def agent() -> Agent:
    agent = Agent()
    agent.at(2.5)
    agent.at(8.0)
    agent.at(9.0)
    assert agent.signals == [signal.SIGSTOP]
    return agent


def test_a_late_answer_to_a_recent_renewal_lets_members_go_on(agent: Agent) -> None:
    # The broker has had the link all the time, and gives nothing away before its own lease is over.
    renewals = [one.counter for one in agent.sent if isinstance(one, m.Renew)]
    agent.hear(9.2, m.Lease(renewals[1]))
    assert agent.signals == [signal.SIGSTOP, signal.SIGCONT]
    agent.at(16.9)
    assert agent.signals == [signal.SIGSTOP, signal.SIGCONT]
    agent.at(17.0)
    assert agent.signals == [signal.SIGSTOP, signal.SIGCONT, signal.SIGSTOP]


@pytest.mark.parametrize(("keep", "number"), [(MEMBER, signal.SIGCONT), (b"", signal.SIGKILL)])
def test_the_next_welcome_says_who_goes_on(agent: Agent, keep: bytes, number: int) -> None:
    agent.at(10.0, events.LinkLost())
    agent.at(20.0, events.LinkUp())
    agent.hear(20.0, c.AgentWelcome(m.PROTOCOL_VERSION, b"B" * 16, LEASE, 2.5, keep))
    assert agent.signals == [signal.SIGSTOP, number]
