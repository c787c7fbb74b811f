"""A broker process and host agents that speak to it by hand: what it holds outlives it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.broker_process import Broker, Peer, client_hello, kill
from harness.processes import free_port
from manyhands_shared.coordination import identity
from manyhands_shared.coordination.kinds import Kind, Operation, Outcome
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c

SECRET = b"secret of a test"
PROGRAM, MEMBER_KEY = identity.program_id(SECRET), identity.member_key(SECRET)
ROOT, OTHER = b"R" * 16, b"O" * 16
LOCK, QUEUE = b"L" * 16, b"Q" * 16
NO_ID = identity.NO_ID


class Agent:
    """A host agent, over one link after another."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.numbers = {ROOT: 0, OTHER: 0}
        self.settled = {ROOT: 0, OTHER: 0}

    def connect(self, broker: Broker, *members: bytes) -> c.AgentWelcome:
        """Say hello with these members running."""
        self.close()
        self.peer = Peer(broker.address)
        states = [c.MemberState(one, PROGRAM, NO_ID, c.RUNNING, 1) for one in members]
        self.say(
            c.AgentHello(
                m.PROTOCOL_VERSION, "host", "node", b"n" * 16, b"a" * 16, "@a", 9, states, b"", {}
            )
        )
        welcome: c.AgentWelcome = self.hear(c.AgentWelcome)
        return welcome

    def say(self, message: m.Message) -> None:
        """Send a message."""
        assert self.peer is not None
        self.peer.send(message)

    def hear(self, kind: type) -> Any:
        """Return the next message of a kind."""
        assert self.peer is not None
        return self.peer.until(kind)

    def begin(self) -> None:
        """Have a root begin the program, and another process join it."""
        self.say(c.Program(PROGRAM, ROOT, "host", MEMBER_KEY, {"pid": 7, "name": "p.py"}))
        assert self.hear(c.Placed).error == ""
        self.say(c.MemberHello(PROGRAM, OTHER, identity.proof(MEMBER_KEY, OTHER), 8))

    def request(
        self, member: bytes, key: bytes, operation: int, *arguments: Any, body: bytes = b""
    ) -> c.Request:
        """Have a member ask for something; return the request."""
        self.numbers[member] += 1
        bodies = [body] if body else []
        request = c.Request(
            member,
            self.numbers[member],
            self.settled[member],
            key,
            operation,
            False,
            list(arguments),
            list(bodies),
        )
        self.say(request)
        return request

    def answer(self, request: c.Request) -> c.Response:
        """Return the answer to a request."""
        while True:
            response: c.Response = self.hear(c.Response)
            if (response.member, response.number) == (request.member, request.number):
                self.settled[request.member] = request.number
                return response

    def do(
        self, member: bytes, key: bytes, operation: int, *arguments: Any, body: bytes = b""
    ) -> c.Response:
        """Have a member do something."""
        return self.answer(self.request(member, key, operation, *arguments, body=body))

    def close(self) -> None:
        """Close the link."""
        if self.peer is not None:
            self.peer.close()


@contextlib.contextmanager
def brokers(place: Path, **config: Any) -> Iterator[Any]:
    """What starts the broker, again and again, on one port and one log."""
    port, running = free_port(), list[Broker]()

    def start() -> Broker:
        broker = Broker(
            bind=f"tcp://127.0.0.1:{port}",
            session_grace=100.0,
            lease=100.0,
            coordination_dir=str(place / "log"),
            **config,
        )
        running[:] = [broker]
        return broker

    try:
        yield start
    finally:
        if running and running[0].process.poll() is None:
            running[0].close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()


def test_a_held_lock_and_its_waiters_outlive_a_killed_broker(tmp_path: Path, agent: Agent) -> None:
    with brokers(tmp_path) as start:
        broker = start()
        agent.connect(broker)
        agent.begin()
        assert agent.do(ROOT, LOCK, Operation.CREATE, int(Kind.LOCK), [], "p.py:1").outcome == 0
        assert agent.do(ROOT, LOCK, Operation.ACQUIRE, True, None, 0).outcome == Outcome.OK
        waiting = agent.request(OTHER, LOCK, Operation.ACQUIRE, True, None, 0)
        assert agent.do(ROOT, LOCK, Operation.VALUE).arguments == [0]
        kill(broker)

        broker = start()
        assert agent.connect(broker, ROOT, OTHER).keep == ROOT + OTHER
        # The agent says again what has no answer; the broker knows it.
        agent.say(waiting)
        assert agent.do(ROOT, LOCK, Operation.VALUE).arguments == [0]
        assert agent.do(ROOT, LOCK, Operation.RELEASE).outcome == Outcome.OK
        assert agent.answer(waiting).outcome == Outcome.OK


@pytest.mark.timeout(400)
def test_twenty_killed_brokers_lose_and_double_no_item(tmp_path: Path, agent: Agent) -> None:
    put, got = [], []
    with brokers(tmp_path) as start:
        broker = start()
        agent.connect(broker)
        agent.begin()
        agent.do(ROOT, QUEUE, Operation.CREATE, int(Kind.QUEUE), [0], "p.py:2")
        for life in range(20):
            # Some of these have reached the broker when it is killed, and some have not.
            wanted = [agent.request(OTHER, QUEUE, Operation.GET, True, None) for _ in range(5)]
            puts = []
            for number in range(10):
                put.append(f"{life}/{number}".encode())
                puts.append(agent.request(ROOT, QUEUE, Operation.PUT, True, None, body=put[-1]))
            if life % 2:
                agent.answer(puts[life // 2])
            kill(broker)
            broker = start()
            assert agent.connect(broker, ROOT, OTHER).keep == ROOT + OTHER
            for request in [*wanted, *puts]:
                agent.say(request)
            answers: dict[tuple[bytes, int], c.Response] = {}
            while len(answers) < len(wanted) + len(puts):
                response = agent.hear(c.Response)
                answers[response.member, response.number] = response
            got += [answers[OTHER, one.number].bodies[0] for one in wanted]
            agent.settled = dict(agent.numbers)
        while (
            response := agent.do(OTHER, QUEUE, Operation.GET, False, None)
        ).outcome == Outcome.OK:
            got += response.bodies
    assert got == put


def test_a_log_of_which_nothing_is_left_goes_with_the_broker(tmp_path: Path, agent: Agent) -> None:
    with brokers(tmp_path) as start:
        broker = start()
        assert not (tmp_path / "log").exists()
        agent.connect(broker)
        agent.begin()
        agent.do(ROOT, LOCK, Operation.CREATE, int(Kind.LOCK), [], "p.py:1")
        assert (tmp_path / "log").exists()
        agent.say(c.Ended(OTHER, 0, ""))
        agent.say(c.Ended(ROOT, 0, ""))
        agent.say(m.Ping(5))
        agent.hear(m.Pong)
        broker.close()
    assert not (tmp_path / "log").exists()


def test_clients_see_processes_and_what_they_wait_for(tmp_path: Path, agent: Agent) -> None:
    with brokers(tmp_path) as start:
        broker = start()
        client = Peer(broker.address)
        client.send(client_hello())
        client.until(m.ClientWelcome)

        def ask(what: str, **arguments: Any) -> Any:
            client.send(m.Query(1, what, arguments))
            reply = client.until(m.Reply)
            return reply.data if not reply.error else reply.error

        named = {"host_id": "host", "program": PROGRAM, "root": ROOT, "member_key": MEMBER_KEY}
        assert ask("agent", **named) == {"address": ""}
        assert ask("ps") == []
        agent.connect(broker)
        assert ask("agent", **named) == {"address": "@a"}
        agent.begin()
        agent.do(ROOT, LOCK, Operation.CREATE, int(Kind.LOCK), [], "p.py:1")
        agent.do(ROOT, LOCK, Operation.ACQUIRE, True, None, 0)
        agent.request(OTHER, LOCK, Operation.ACQUIRE, True, None, 0)
        agent.say(m.Ping(5))
        agent.hear(m.Pong)
        found = {one["id"]: one for one in ask("ps")}
        assert found.keys() == {ROOT.hex(), OTHER.hex()}
        assert found[ROOT.hex()]["pid"] == 7
        assert found[ROOT.hex()]["state"] == "running"
        [wait] = found[OTHER.hex()]["waits"]
        assert "lock" in wait
        assert "made at p.py:1" in wait
        [why] = ask("why_process", id=OTHER.hex()[:8])
        assert "held by" in why
        assert "no program or process" in ask("why_process", id="nothing")
        client.close()


def test_a_broker_without_programs_loads_none_of_the_coordinator() -> None:
    import subprocess

    script = (
        "import sys; import manyhands_broker.server;"
        "print([name for name in sys.modules if 'coordination.' in name"
        " or name.endswith('messages.coordination')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    allowed = ("effects", "records")
    loaded = [name for name in eval(found.stdout) if name.rpartition(".")[2] not in allowed]
    assert loaded == []
