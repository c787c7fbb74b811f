"""Who connects to a host agent, or to the node that passes on to it, while descriptors are short."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.processes import eventually, no_descriptor_left
from manyhands_shared.coordination.channel import MemberChannel
from manyhands_shared.protocol.messages.coordination import PassedOn
from manyhands_worker.agent.agent import HostAgent
from manyhands_worker.agent.config import AgentConfig
from manyhands_worker.agent.core.identity import AgentIdentity
from manyhands_worker.agent.start import AgentSupervisor, listen


def connect(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("\0" + address[1:])
    return sock


def config_of(agent: bytes, address: str) -> AgentConfig:
    identity = AgentIdentity(agent, "host", "node", b"b" * 16, address, 1)
    return AgentConfig(identity, "unix://@nowhere", None)


def serve(selector: selectors.BaseSelector, seconds: float) -> bool:
    """Do what is ready within that time; whether anything was."""
    ready = selector.select(seconds)
    for key, events in ready:
        key.data(events)
    return bool(ready)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[HostAgent]:
    listener, address = listen()
    identity = AgentIdentity(b"a" * 16, "host", "node", b"b" * 16, address, 1)
    made = HostAgent(AgentConfig(identity, f"unix://{tmp_path}/none", None), listener, None)
    yield made
    made._close()


def test_an_agent_without_a_descriptor_looks_again_later(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(agent._core), "ready", True)
    agent._tick(time.monotonic())
    with connect(agent._config.identity.address):
        with no_descriptor_left():
            assert serve(agent._selector, 60)
            assert not serve(agent._selector, 0), "the loop would turn without a rest"
            agent._tick(agent._accept_at - 0.1)
            assert not serve(agent._selector, 0)
            assert agent._tick_by <= agent._accept_at
        agent._tick(agent._accept_at)
        assert serve(agent._selector, 60)
        assert len(agent._connections) == 1


def test_what_cannot_be_passed_on_now_is_passed_on_later() -> None:
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        there, address = listen()
        stack.enter_context(there)
        there.listen(0)
        supervisor = AgentSupervisor(selector, lambda *_: pytest.fail("there is an agent"))
        stack.callback(supervisor.close)
        supervisor.pass_on(address)
        # One more than it has room for.
        first = stack.enter_context(connect(address))
        assert first
        stack.enter_context(connect(supervisor.address))
        assert serve(selector, 60)
        assert not serve(selector, 0), "the node would turn without a rest"
        at = supervisor.deadline
        assert at is not None
        there.setblocking(True)
        there.accept()[0].close()
        supervisor.turn(at - 0.1)
        assert not serve(selector, 0)
        supervisor.turn(at)
        assert supervisor.deadline == math.inf
        assert serve(selector, 60)
        channel = MemberChannel(there.accept()[0])
        stack.callback(channel.close)
        [(message, descriptors)] = eventually(channel.receive)
        assert message == PassedOn(supervisor.address)
        stack.enter_context(socket.socket(fileno=descriptors[0]))
        assert len(descriptors) == 1


@pytest.mark.parametrize("end", [AgentSupervisor.drain, AgentSupervisor.close])
def test_an_agent_that_has_just_died_is_told_nothing(
    end: Callable[[AgentSupervisor], None],
) -> None:
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        supervisor = AgentSupervisor(selector, config_of)
        stack.callback(supervisor.close)
        supervisor.want()
        supervisor.turn(time.monotonic())
        process = supervisor._process
        assert process is not None
        assert process.pid is not None
        process.kill()
        # The fork server has reaped it, and the number may be another's.
        eventually(lambda: not psutil.pid_exists(process.pid or 0))
        end(supervisor)
