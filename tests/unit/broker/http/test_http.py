"""What the broker says over HTTP, and to whom."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import resource
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.brokers.broker_process import (
    FUNCTION,
    Broker,
    Peer,
    client_hello,
    results_of,
    submit,
    worker_hello,
)
from harness.command import fails, run
from harness.processes import eventually
from manyhands_broker.http.admission.connections import HEAD_BYTES, LIFE_SECONDS
from manyhands_broker.http.app import STUCK
from manyhands_broker.http.metrics import COUNTERS, GAUGES
from manyhands_broker.http.snapshot import Snapshot
from manyhands_shared.coordination.kinds import Operation
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import coordination as c


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: str


def get(url: str, path: str, host: str | None = "localhost", method: str = "GET") -> Answer:
    """Ask with this Host header; `None` sends none."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=100)
    try:
        connection.putrequest(method, path, skip_host=True)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read().decode())
    finally:
        connection.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Broker]]:
    """Starts brokers with HTTP on a free port, that are ready."""
    started: list[Broker] = []

    def make(**config: Any) -> Broker:
        broker = Broker(http="127.0.0.1:0", **config)
        started.append(broker)
        eventually(lambda: answers(broker), what="HTTP answers")
        return broker

    yield make
    for broker in started:
        if broker.process.poll() is None:
            broker.process.send_signal(signal.SIGCONT)
            broker.close()
        broker.process.stderr.close()  # type: ignore[union-attr]


def answers(broker: Broker) -> bool:
    try:
        return get(broker.facts["http"], "/readyz").status == 200
    except OSError:
        return False


@pytest.fixture
def broker(start: Callable[..., Broker]) -> Broker:
    return start()


def metrics(broker: Broker) -> dict[tuple[str, ...], float]:
    """Sample name and label values → value."""
    text = get(broker.facts["http"], "/metrics").body
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scale(broker: Broker) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(get(broker.facts["http"], "/scale").body)
    return document


def test_it_is_off_unless_asked_for() -> None:
    broker = Broker()
    try:
        assert "http" not in broker.facts
        names = {child.name() for child in psutil.Process(broker.process.pid).children()}
        assert len(names) <= 2  # the monitor, and a helper of multiprocessing
    finally:
        broker.close()


def test_work_shows_in_scale_and_metrics(broker: Broker) -> None:
    client, node = Peer(broker.address), Peer(broker.address)
    try:
        client.send(client_hello())
        submit(client, 3)
        eventually(lambda: scale(broker)["queued"] == 3)
        before = scale(broker)
        assert (before["version"], before["running"], before["slots"]) == (1, 0, 0)
        assert before["slots_wanted"] == 3  # how long they take is not known yet
        node.send(worker_hello())
        first = node.until(m.Assign)
        eventually(lambda: scale(broker)["running"] == 1)
        node.send(results_of(first, 1))
        eventually(lambda: metrics(broker)["manyhands_tasks_ended_total", "done"] == 1)
        seen = metrics(broker)
        assert seen["manyhands_tasks_submitted_total",] == 3
        assert sum(seen["manyhands_nodes", state] for state in ("ready", "suspected")) == 1
        assert seen["manyhands_up",] == seen["manyhands_ready",] == 1
        # Two tasks of a tenth of a second are no reason for another slot.
        assert scale(broker)["slots_wanted"] == seen["manyhands_slots_wanted",] == 1
    finally:
        client.close()
        node.close()


def test_metrics_follow_the_conventions(broker: Broker) -> None:
    answer = get(broker.facts["http"], "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(text_string_to_metric_families(answer.body))
    names = {family.name for family in families}
    assert names >= {*GAUGES, *COUNTERS}
    for family in families:
        assert family.name.startswith("manyhands_")
        assert family.documentation
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            labels = {"state", "reason", "how", "budget", "version", "python", "operation"}
            assert set(sample.labels) <= labels


def test_programs_show_in_metrics(broker: Broker) -> None:
    assert metrics(broker)["manyhands_programs",] == 0
    agent, root, program, key = Peer(broker.address), b"R" * 16, b"P" * 16, b"k" * 16
    try:
        agent.send(
            c.AgentHello(1, "host", "", bytes(16), b"a" * 16, "", 0, [], b"", {"manyhands": "1"})
        )
        agent.until(c.AgentWelcome)
        agent.send(c.Program(program, root, "host", bytes(32), {}))
        assert not agent.until(c.Placed).error
        made = [1, [], "here"]
        agent.send(c.Request(root, 1, 0, key, Operation.CREATE, False, made, []))
        agent.send(c.Request(root, 2, 0, key, Operation.ACQUIRE, False, [True, None, 0], []))
        agent.until(c.Response)
        eventually(lambda: metrics(broker).get(("manyhands_shared_objects",)) == 1)
        seen = metrics(broker)
        assert seen["manyhands_programs",] == seen["manyhands_members",] == 1
        assert seen["manyhands_host_agents",] == 1
        assert seen["manyhands_coordination_bytes",] > 0
        assert seen["manyhands_coordination_operations_total", "acquire"] == 1
    finally:
        agent.close()


@pytest.mark.parametrize("path", ["/metrics", "/scale", "/livez", "/readyz", "/nowhere"])
@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:9711", "localhost.evil.example", "a@localhost"]
)
def test_a_request_under_another_name_is_refused(
    shared: Broker, path: str, host: str | None
) -> None:
    answer = get(shared.facts["http"], path, host)
    assert answer.status in (400, 421)
    assert "manyhands_" not in answer.body


@pytest.fixture(scope="module")
def shared() -> Iterator[Broker]:
    """One broker for tests that only ask."""
    broker = Broker(http="127.0.0.1:0", http_hosts="broker.internal, other")
    eventually(lambda: answers(broker), what="HTTP answers")
    yield broker
    broker.close()
    broker.process.stderr.close()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1:80", "10.1.2.3", "[::1]:9", "broker.internal:80"],
)
def test_addresses_and_names_on_the_list_are_answered(shared: Broker, host: str) -> None:
    answer = get(shared.facts["http"], "/livez", host)
    assert (answer.status, answer.body) == (200, "ok\n")
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(shared: Broker, method: str) -> None:
    assert get(shared.facts["http"], "/scale", method=method).status == 405


def test_garbage_costs_the_broker_nothing(shared: Broker) -> None:
    rng = random.Random(1)
    place = ("127.0.0.1", int(shared.facts["http"].rpartition(":")[2]))
    for _ in range(50):
        with socket.create_connection(place, timeout=100) as connection:
            connection.sendall(rng.randbytes(2_000) + b"\r\n\r\n")
    assert get(shared.facts["http"], "/readyz").status == 200


@contextlib.contextmanager
def slow_clients(url: str, count: int, said: bytes) -> Iterator[list[socket.socket]]:
    """Clients that say this much of a request, and go on at one byte in a while."""
    place = ("127.0.0.1", int(url.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(count):
            socks.append(stack.enter_context(socket.create_connection(place, timeout=100)))
            socks[-1].sendall(said)
        yield socks


@pytest.mark.parametrize(
    "said", [b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nA: ", b"POST /x HTTP/1.1\r\n"]
)
def test_slow_clients_do_not_keep_probes_out(shared: Broker, said: bytes) -> None:
    url = shared.facts["http"]
    with slow_clients(url, 700, said) as socks:
        took = []
        for _ in range(20):
            started = time.monotonic()
            assert get(url, "/livez").status == 200
            took.append(time.monotonic() - started)
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.send(b"x")
    # Most of them: a busy machine may keep one waiting.
    assert statistics.median(took) < LIFE_SECONDS


def test_a_request_that_does_not_end_is_ended(shared: Broker) -> None:
    url = shared.facts["http"]
    with slow_clients(url, 1, b"GET /livez HTTP/1.1\r\nHost: ") as [sock]:
        started = time.monotonic()
        sock.settimeout(0.1)
        while True:
            try:
                sock.send(b"x")
                if not sock.recv(1):
                    break
            except TimeoutError:
                assert time.monotonic() - started < 100
            except ConnectionError:
                break


def test_a_head_of_a_request_has_an_end(shared: Broker) -> None:
    url = shared.facts["http"]
    with slow_clients(url, 1, b"GET /livez HTTP/1.1\r\nA: " + bytes([65]) * 2 * HEAD_BYTES) as [
        sock
    ]:
        assert sock.recv(100).startswith(b"HTTP/1.1 4")


def test_a_broker_that_stands_still_is_not_alive(start: Callable[..., Broker]) -> None:
    broker = start()
    url = broker.facts["http"]
    broker.process.send_signal(signal.SIGSTOP)
    eventually(lambda: get(url, "/livez").status == 503, timeout=STUCK + 100)
    assert "has not turned for" in get(url, "/readyz").body
    assert get(url, "/scale").status == 503
    assert metrics(broker)["manyhands_up",] == 0
    broker.process.send_signal(signal.SIGCONT)
    eventually(lambda: get(url, "/livez").status == 200)


def test_the_process_that_answers_is_replaced_and_leaves_with_the_broker(broker: Broker) -> None:
    port = int(broker.facts["http"].rpartition(":")[2])

    def server() -> psutil.Process | None:
        for child in psutil.Process(broker.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(found.laddr.port == port for found in child.net_connections("tcp")):
                    return child
        return None

    first = server()
    assert first is not None
    first.kill()
    eventually(lambda: (new := server()) is not None and new != first and answers(broker))
    last = server()
    assert last is not None
    broker.process.send_signal(signal.SIGKILL)
    broker.process.wait(100)
    eventually(lambda: not last.is_running() or last.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs prlimit")
def test_processes_of_the_broker_that_cannot_start_are_started_later(broker: Broker) -> None:
    process = psutil.Process(broker.process.pid)
    children = process.children()
    # Enough for the new processes, which have the same limit.
    most = process.num_fds() + 40
    crowd = [Peer(broker.address) for _ in range(60)]
    for peer in crowd:
        peer.send(client_hello(random.randbytes(16)))
        peer.until(m.ClientWelcome)
    # There is no reserve either.
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, most))
    for child in children:
        child.kill()
    log = broker.process.stderr
    assert log is not None
    missing = {b"heartbeat monitor cannot start", b"HTTP process cannot start"}
    while missing:
        line = log.readline()
        assert line, "the broker has ended"
        missing = {text for text in missing if text not in line}
    crowd[0].send(m.Ping(7))
    assert crowd[0].until(m.Pong).counter == 7
    for peer in crowd:
        peer.close()
    eventually(lambda: answers(broker), what="HTTP answers again")
    eventually(lambda: len(process.children()) >= 2, what="both are there")


def test_a_port_that_is_taken_is_one_line(shared: Broker) -> None:
    taken = shared.facts["http"].removeprefix("http://")
    with pytest.raises(AssertionError, match="cannot listen for HTTP on"):
        Broker(http=taken)
    with pytest.raises(AssertionError, match="is no address for --http"):
        Broker(http="everywhere")


def test_a_journal_without_room_is_not_ready(disk: Path, start: Callable[..., Broker]) -> None:
    broker = start(journal=str(disk / "journal"))
    url, environment = broker.facts["http"], {"MANYHANDS_BROKER": broker.address}
    assert run("health", env=environment).returncode == 0
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    eventually(lambda: get(url, "/readyz").status == 503)
    assert "the journal has no room" in get(url, "/readyz").body
    assert get(url, "/livez").status == 200
    assert metrics(broker)["manyhands_ready",] == 0
    # The command says the same.
    assert "the journal has no room" in fails(run("health", env=environment), 1)
    ballast.unlink()
    eventually(lambda: answers(broker))


def test_kinds_of_tasks_with_endless_names_stop_nothing(broker: Broker) -> None:
    client = Peer(broker.address)
    try:
        client.send(client_hello())
        client.send(m.Function(FUNCTION, "f", [b"code"]))
        for number in range(40):
            names = {f"{number:03}{place:02}{'x' * 190}": 1.0 for place in range(16)}
            options = {"resources": names}
            group = m.SubmitGroup(f"job-{number}", FUNCTION, options, 0, True, [b"args"])
            client.send(m.Submit([group]))
        eventually(lambda: scale(broker)["queued"] == 40)
        assert scale(broker)["slots_wanted"] == 40
        assert scale(broker)["wanted"] == []
    finally:
        client.close()


def test_a_torn_board_is_read_again() -> None:
    snapshot = Snapshot()
    assert snapshot.read() is None
    snapshot.pin({"a": 1}, 5.0)
    assert snapshot.read() == ({"a": 1}, 5.0)
    packed = msgpack.packb({"a": 2})
    memoryview(snapshot._body).cast("B")[: len(packed)] = packed  # the writer is in the middle
    assert snapshot.read() is None
    with pytest.raises(ValueError, match="do not fit"):
        snapshot.pin({"a": bytes(70_000)}, 6.0)
    snapshot.pin({"a": 2, "b": [1] * 1_000}, 6.0)
    assert snapshot.read() == ({"a": 2, "b": [1] * 1_000}, 6.0)
