"""Links that break, brokers that forget, messages that come twice or make no sense."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from harness.brokers.client_broker import FakeBroker
from harness.processes import eventually
from manyhands import Client, Executor
from manyhands_shared.errors import Refused as RefusedError
from manyhands_shared.protocol.messages import (
    Accepted,
    Ack,
    Assign,
    ClientHello,
    Function,
    Lease,
    Message,
    Need,
    Ping,
    Pong,
    Refused,
    Reply,
    ResultGroup,
    Results,
    Submit,
    Who,
)


def test_a_broker_that_comes_back_with_its_memory(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(100)]
        eventually(lambda: broker.most_waiting == 100)
        broker.vanish()
        futures += [executor.submit(abs, -n) for n in range(100, 200)]
        broker.holding = False
        broker.come_back()
        assert [future.result(100) for future in futures] == list(range(200))
    assert set(broker.runs.values()) == {1}
    assert len(broker.peers) == len(set(broker.peers)) == 2, "a new link has a new routing id"


def test_a_broker_that_comes_back_without_memory(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(100)]
        eventually(lambda: broker.most_waiting == 100)
        broker.vanish()
        broker.holding = False
        broker.come_back(forgetful=True)
        assert [future.result(100) for future in futures] == list(range(100))


def test_results_sent_while_the_link_was_down_come_later_once(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(50)]
        eventually(lambda: broker.most_waiting == 50)
        broker.vanish()
        broker.release()
        broker.come_back()
        assert [future.result(100) for future in futures] == list(range(50))
    assert set(broker.runs.values()) == {1}


def test_many_restarts_under_load(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        futures = []
        for round_ in range(6):
            futures += [executor.submit(abs, -n) for n in range(200)]
            broker.vanish()
            broker.come_back(forgetful=round_ % 2 == 0)
        assert [future.result(100) for future in futures] == list(range(200)) * 6


def test_a_broker_that_forgets_the_session_is_told_everything_again(broker: FakeBroker) -> None:
    broker.holding = True
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(50)]
        eventually(lambda: broker.most_waiting == 50)
        broker.forget()
        futures.append(executor.submit(abs, -50))
        eventually(lambda: broker.count(ClientHello) == 2)
        broker.release()
        assert [future.result(100) for future in futures] == list(range(51))


def test_repeated_messages_change_nothing(broker: FakeBroker) -> None:
    broker.mangles = lambda message: [message, message]
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(100)]
        assert [future.result(100) for future in futures] == list(range(100))
    assert set(broker.runs.values()) == {1}


def test_a_lost_result_is_asked_for(broker: FakeBroker) -> None:
    lost: list[Message] = []

    def lose_one(message: Message) -> list[Message]:
        if isinstance(message, Results) and message.seq == 3 and not lost:
            lost.append(message)
            return []
        return [message]

    broker.mangles = lose_one
    with Executor(address=broker.address) as executor:
        futures = [executor.submit(abs, -n) for n in range(10)]
        assert [future.result(100) for future in futures] == list(range(10))
    assert lost
    assert broker.count(ClientHello) == 2


def test_results_are_acknowledged(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        for n in range(5):
            executor.submit(abs, -n).result(100)
        (session,) = broker.sessions.values()
        eventually(lambda: not session.unacked)
    assert broker.count(Ack)


def test_a_lost_function_is_sent_when_needed(broker: FakeBroker) -> None:
    lost: list[Message] = []

    def lose_one(message: Message) -> bool:
        if isinstance(message, Function) and not lost:
            lost.append(message)
            return True
        return False

    broker.loses = lose_one
    with Executor(address=broker.address) as executor:
        assert executor.submit(abs, -1).result(100) == 1
    assert lost


def test_keeps_to_the_window() -> None:
    with FakeBroker(window_tasks=10) as broker:
        broker.holding = True
        with Executor(address=broker.address) as executor:
            futures = [executor.submit(abs, -n) for n in range(100)]
            eventually(lambda: broker.most_waiting == 10)
            broker.release()
            assert [future.result(100) for future in futures] == list(range(100))
        assert broker.most_waiting <= 10


def test_garbage_is_ignored(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        assert executor.submit(abs, -1).result(100) == 1
        for frames in ([b""], [b"\xff" * 50], [b"\x91\x63"], [b"x", b"y", b"z"], [b"\x90"]):
            broker.send_raw(frames)
        for message in (
            Assign([]),
            Lease(1),
            Submit([]),
            Accepted([], 1_000, 1 << 30),
            Reply(77, "", None),
            Need(b"?" * 16),
            Results(10**9, [ResultGroup("absent", 1, [1], b"\0", [b"x"], 0.0)]),
            Results(1, [ResultGroup("absent", 1, [1], b"\0", [b"x"], 0.0)]),
        ):
            broker.send(message)
        assert executor.submit(abs, -2).result(100) == 2
        io = executor._connection.io
        link = io._connector.link
        assert link is not None
        assert link.garbage + io._session.dropped >= 5


def test_pings_are_answered_and_sent(broker: FakeBroker) -> None:
    broker.ping_interval = 0.05
    with Executor(address=broker.address) as executor:
        broker.send(Ping(5))
        eventually(lambda: Pong(5) in broker.received)
        eventually(lambda: broker.count(Ping) >= 2)
        assert executor.submit(abs, -1).result(100) == 1


def test_a_refusal_fails_everything(broker: FakeBroker) -> None:
    broker.holding = True
    executor = Executor(address=broker.address)
    future = executor.submit(abs, -1)
    broker.send(Refused("full", "no more of this"))
    with pytest.raises(RefusedError, match="no more of this"):
        future.result(100)
    with pytest.raises(RefusedError):
        executor.submit(abs, -1)
    executor.shutdown()


def test_a_refused_hello_raises(broker: FakeBroker) -> None:
    def answer(message: Message) -> list[Message] | None:
        return [Refused("protocol", "speak 2")] if isinstance(message, ClientHello) else None

    broker.answers = answer
    with pytest.raises(RefusedError, match="speak 2") as caught:
        Client(broker.address)
    assert caught.value.code == "protocol"


def test_who_before_the_welcome_is_no_loop(broker: FakeBroker) -> None:
    with Executor(address=broker.address) as executor:
        for _ in range(5):
            broker.send(Who(b"B" * 16))
        assert executor.submit(abs, -1).result(100) == 1
    assert broker.count(ClientHello) <= 6


def test_a_flood_of_messages_that_nobody_reads_is_held_here() -> None:
    """More lone messages than the socket queues hold: they wait in Python and none is lost."""
    with FakeBroker() as broker, Client(broker.address) as client:
        asked: list[Any] = []
        gate: list[int] = []

        def stall() -> None:
            eventually(lambda: gate, timeout=100)

        stalled = threading.Thread(target=broker.do, args=(stall,))
        stalled.start()
        asked = [client._io.ask("echo", {"n": n, "pad": "x" * 20_000}) for n in range(4_000)]
        gate.append(1)
        stalled.join(100)
        assert [answer.result(100)["arguments"]["n"] for answer in asked] == list(range(4_000))
