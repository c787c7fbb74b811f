"""`Client` and its jobs, and reaching a broker at all."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Self

import cloudpickle
import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from harness.brokers.client_broker import FakeBroker
from harness.threads import Worker
from manyhands import Client, Executor, Pool
from manyhands_shared.errors import (
    BrokerUnreachable,
    ClusterClosed,
    ConfigError,
    NotAuthorised,
    Refused,
    SubmitError,
)
from manyhands_shared.protocol import labels, wire
from manyhands_shared.protocol.messages import ClientHello, Query, Submit
from manyhands_shared.protocol.messages import Refused as RefusedMessage
from manyhands_shared.security.cluster_key import ClusterKey


def divide(numerator: int, denominator: int) -> float:
    return numerator / denominator


def test_an_array_job(broker: FakeBroker) -> None:
    with Client(broker.address) as client:
        job = client.submit_job(lambda x: x * x, [(n,) for n in range(1000)], name="squares")
        assert job.tasks == 1000
        assert sorted(job) == [(n, n * n) for n in range(1000)]
        assert job.wait(0)
        assert job.ended == 1000
        again = client.submit_job(pow, [(2, n) for n in range(10)])
        assert again.results() == [2**n for n in range(10)]
        assert again.id != job.id
    (group,) = [
        group
        for message in broker.received
        if isinstance(message, Submit)
        for group in message.groups
        if group.job == job.id and group.first == 0
    ]
    needs = list(labels.by_value(cloudpickle.__version__))
    demands = {"python": labels.PYTHON, "needs": needs}
    assert group.options == {"name": "squares", "direct": True, "echo": True, **demands}


def test_a_failed_task_fails_alone(broker: FakeBroker) -> None:
    with Client(broker.address) as client:
        job = client.submit_job(divmod, [(1, 1), (1, 0), (4, 2)])
        results = dict(job)
        assert results[0] == (1, 0)
        assert results[2] == (2, 0)
        assert isinstance(results[1], ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            client.submit_job(divmod, [(1, 1), (1, 0)]).results()


def test_an_empty_job_is_over(broker: FakeBroker) -> None:
    with Client(broker.address) as client:
        job = client.submit_job(abs, [])
        assert job.wait(0)
        assert list(job) == []


def test_a_cancelled_job_ends(broker: FakeBroker) -> None:
    broker.holding = True
    with Client(broker.address) as client:
        job = client.submit_job(abs, [(n,) for n in range(10)])
        assert not job.wait(0.001)
        job.cancel()
        assert job.wait(100)
        outcomes = dict(job)
        assert len(outcomes) == 10
        assert all(isinstance(value, CancelledError) for value in outcomes.values())


def test_a_job_of_another_session_is_cancelled_by_its_id(broker: FakeBroker) -> None:
    with Client(broker.address) as client:
        client.cancel("another-s")
        asked = [message for message in broker.received if isinstance(message, Query)]
        assert [(query.what, query.arguments) for query in asked] == [
            ("cancel", {"id": "another-s"})
        ]


def test_a_job_that_cannot_be_sent_whole_is_cancelled(broker: FakeBroker) -> None:
    with Client(broker.address) as client:
        with pytest.raises(SubmitError):
            client.submit_job(abs, [(1,), (threading.Lock(),)])
        assert client.submit_job(abs, [(-1,)]).results() == [1]


def test_closing_fails_what_waits(broker: FakeBroker) -> None:
    broker.holding = True
    client = Client(broker.address)
    job = client.submit_job(abs, [(1,)])
    heard: list[Any] = []
    thread = threading.Thread(target=lambda: heard.append(job.wait(100)))
    thread.start()
    client.close()
    client.close()
    thread.join(100)
    assert heard == [True]
    with pytest.raises(ClusterClosed):
        list(job)
    with pytest.raises(ClusterClosed):
        client.submit_job(abs, [(1,)])
    with pytest.raises(ClusterClosed):
        client.query("stats")


def test_queries(broker: FakeBroker) -> None:
    with Client(broker.address) as client:
        assert client.query("echo", a=1, b="x")["arguments"] == {"a": 1, "b": "x"}
        with pytest.raises(Refused, match="unknown question"):
            client.query("nonsense")
        with pytest.raises(ConfigError, match="plain values"):
            client.query("echo", a=object())
        values: tuple[Any, ...] = (float("nan"), 1 << 64, "x" * 33_000, [[]], {"a": {"b": {}}})
        for odd in values:
            with pytest.raises(ConfigError, match="plain values"):
                client.query("echo", a=odd)


@pytest.mark.parametrize("odd", [{"name": "x" * 201}, {"limit": -1}, {"limit": 1 << 32}])
def test_a_client_that_no_broker_would_take_says_so_at_once(
    broker: FakeBroker, odd: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="no broker would take this client"):
        Client(broker.address, connect_timeout=60.0, **odd)


def test_the_hello_says_who_we_are(broker: FakeBroker) -> None:
    with Client(broker.address, name="tests", limit=3):
        pass
    (hello,) = [message for message in broker.received if isinstance(message, ClientHello)]
    assert (hello.name, hello.limit) == ("tests", 3)
    assert hello.info.keys() >= {"manyhands", "python", "cloudpickle", "host", "pid"}


def test_addresses_come_from_the_environment(
    broker: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANYHANDS_BROKER", broker.address.removeprefix("tcp://"))
    with Client() as client, Executor() as executor, Pool() as pool:
        assert client.address == broker.address
        assert executor.submit(abs, -1).result(100) == 1
        assert pool.map(abs, [-2]) == [2]


@pytest.mark.parametrize("kind", [Client, Executor, Pool])
def test_nobody_answers(kind: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BrokerUnreachable, match="no broker answers at tcp://127") as caught:
            kind(address=address, connect_timeout=0.1)
    assert "\n" not in str(caught.value)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no key file"):
        Client("tcp://127.0.0.1:1", key_file=tmp_path / "no.key")


class Curve:
    """A ROUTER that admits the holders of one key, as the broker does."""

    def __init__(self, key: ClusterKey) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.guard = ThreadAuthenticator(self.context)
        self.guard.start()
        pair = key.pair("broker")
        self.guard.configure_curve_callback(
            "*", credentials_provider=Only(key.pair("client").public)
        )
        self.router = self.context.socket(zmq.ROUTER)
        self.router.linger = 0
        self.router.curve_secretkey, self.router.curve_publickey = pair.secret, pair.public
        self.router.curve_server = True
        self.address = f"tcp://127.0.0.1:{self.router.bind_to_random_port('tcp://127.0.0.1')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.guard.stop()
        self.router.close()
        self.context.term()


class Only:
    def __init__(self, public: bytes) -> None:

        self.key = public

    def callback(self, domain: str, key: bytes) -> bool:
        return key == self.key


def test_without_the_right_key_nobody_gets_in(tmp_path: Path) -> None:
    right, wrong = ClusterKey.new(), ClusterKey.new()
    wrong.save(tmp_path / "wrong.key")
    with Curve(right) as guarded:
        with pytest.raises(NotAuthorised, match="does not take this key"):
            Client(guarded.address, key_file=tmp_path / "wrong.key", connect_timeout=100)
        with pytest.raises(NotAuthorised, match="MANYHANDS_KEY_FILE"):
            Client(guarded.address, connect_timeout=100)


def test_with_the_right_key_the_hello_arrives(tmp_path: Path) -> None:
    key = ClusterKey.new()
    key.save(tmp_path / "right.key")
    with Curve(key) as guarded:
        file = tmp_path / "right.key"
        client = Worker(lambda: Client(guarded.address, key_file=file, connect_timeout=100))
        assert guarded.router.poll(100_000), "the hello arrives"
        peer, *_ = guarded.router.recv_multipart()
        guarded.router.send_multipart([peer, *wire.encode(RefusedMessage("full", "no room"))])
        with pytest.raises(Refused, match="no room"):
            client.result()
