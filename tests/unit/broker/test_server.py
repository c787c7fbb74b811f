"""The broker as a process, over real sockets: strangers, garbage, versions, silence, ends."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from harness.brokers.broker_process import (
    FUNCTION,
    PATIENT,
    Broker,
    Peer,
    client_hello,
    results_of,
    submit,
    worker_hello,
)
from harness.processes import eventually
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.security.cluster_key import ClusterKey


@pytest.fixture
def broker() -> Iterator[Broker]:
    started = Broker()
    yield started
    if started.process.poll() is None:
        started.close()
    started.process.stderr.close()  # type: ignore[union-attr]


#: Runs out in a test, and not before the peers of the test have done what they have to.
LEASE = 6.0


@contextlib.contextmanager
def peers_of(broker: Broker) -> Iterator[Callable[..., Peer]]:
    """Connect peers to a broker; all of them end here."""
    made: list[Peer] = []

    def connect(**kwargs: Any) -> Peer:
        made.append(Peer(broker.address, **kwargs))
        return made[-1]

    try:
        yield connect
    finally:
        for peer in made:
            peer.close()
        if broker.process.poll() is None:
            broker.close()
        broker.process.stderr.close()  # type: ignore[union-attr]


@pytest.fixture
def peers(broker: Broker) -> Iterator[Any]:
    made: list[Peer] = []

    def connect(**kwargs: Any) -> Peer:
        made.append(Peer(broker.address, **kwargs))
        return made[-1]

    yield connect
    for peer in made:
        peer.close()


def test_a_task_goes_to_a_node_and_its_result_comes_back(peers: Any) -> None:
    client, node = peers(), peers()
    node.send(worker_hello())
    welcome = node.until(m.WorkerWelcome)
    assert welcome.lease == PATIENT["lease"]
    client.send(client_hello())
    assert not client.until(m.ClientWelcome).resumed
    submit(client, 1)
    assert client.until(m.Accepted).jobs == [m.JobCount("job", 1)]
    assert node.until(m.Function).bodies == [b"code"]
    assign = node.until(m.Assign)
    assert assign.groups == [m.AssignGroup("job", 1, FUNCTION, {}, [0], [b"args"])]
    node.send(results_of(assign, 1))
    assert node.until(m.Ack).seq == 1
    [group] = client.until(m.Results).groups
    assert (group.indices, group.statuses, group.bodies) == ([0], b"\0", [b"r"])


def test_large_payloads_pass_through_as_frames(peers: Any) -> None:
    client, node = peers(), peers()
    node.send(worker_hello())
    client.send(client_hello())
    client.send(m.Function(FUNCTION, "f", [b"code"]))
    body = (b"head", b"x" * 3_000_000, b"")
    client.send(m.Submit([m.SubmitGroup("job", FUNCTION, {}, 0, True, [body])]))
    assert node.until(m.Assign).groups[0].bodies == [body]


def test_whoever_has_not_said_hello_is_asked_who(peers: Any) -> None:
    stranger = peers()
    stranger.send(m.Renew(1, 1, 1, []))
    assert isinstance(stranger.receive(), m.Who)


@pytest.mark.parametrize("hello", [client_hello(protocol=2), worker_hello(protocol=99)])
def test_another_protocol_is_refused_with_the_remedy(peers: Any, hello: Any) -> None:
    peer = peers()
    peer.send(hello)
    refused = peer.receive()
    assert isinstance(refused, m.Refused)
    assert refused.code == "protocol"
    assert "install the same version" in refused.reason


def test_garbage_on_the_socket_hurts_nobody(broker: Broker, peers: Any) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    vandal, client = peers(), peers()
    client.send(client_hello())
    client.until(m.ClientWelcome)
    valid = wire.encode(worker_hello())
    for _ in range(300):
        frames = [rng.randbytes(rng.randrange(40)) for _ in range(rng.randrange(1, 4))]
        vandal.socket.send_multipart(frames)
        broken = bytearray(valid[0])
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        vandal.socket.send_multipart([bytes(broken)])
    with socket.create_connection(("127.0.0.1", int(broker.address.rpartition(":")[2]))) as raw:
        raw.sendall(rng.randbytes(5000))
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        for size in (0, 1, 112, 113, 9000):
            udp.sendto(rng.randbytes(size), ("127.0.0.1", broker.facts["beat_port"]))

    def invalid() -> int:
        client.send(m.Query(7, "stats", {}))
        return int(client.until(m.Reply).data["counters"].get("invalid_messages", 0))

    eventually(lambda: invalid() > 300, what="the garbage was counted")


def test_a_node_that_goes_silent_loses_its_tasks_when_its_lease_runs_out() -> None:
    with peers_of(Broker(lease=LEASE, crash_limit=1_000)) as connect:
        client, silent, other = connect(), connect(), connect()
        silent.send(worker_hello("silent", b"1" * 16))
        client.send(client_hello())
        submit(client, 1)
        stale = silent.until(m.Assign)

        def condemned() -> int:
            client.send(m.Query(1, "stats", {}))
            return int(client.until(m.Reply).data["counters"].get("nodes_condemned", 0))

        eventually(condemned, what="the silent node was condemned")
        other.send(worker_hello("other", b"2" * 16))
        assign = other.until(m.Assign)
        assert assign.groups[0].attempt == 2
        silent.send(results_of(stale, 1))
        assert isinstance(silent.until(m.Who), m.Who)
        other.send(results_of(assign, 1))
        [group] = client.until(m.Results).groups
        assert group.attempt == 2


def test_a_node_is_drained_on_demand_also_when_the_order_is_lost_with_its_link(peers: Any) -> None:
    client, leaving, other = peers(), peers(), peers()
    leaving.send(worker_hello("leaving", b"1" * 16))
    leaving.until(m.WorkerWelcome)
    client.send(client_hello())
    client.send(m.Query(1, "drain", {"node": "absent"}))
    assert "no node 'absent' here" in client.until(m.Reply).error
    for request in (2, 3):  # asked twice, ordered once
        client.send(m.Query(request, "drain", {"node": "leaving"}))
        assert client.until(m.Reply).data["boot_id"] == (b"1" * 16).hex()
    leaving.until(m.Drain)
    # A renewal that crossed the order does not make it take work again.
    leaving.send(m.Renew(1, 1, 100, []))
    leaving.until(m.Lease)
    client.send(m.Query(4, "nodes", {}))
    assert [node["state"] for node in client.until(m.Reply).data] == ["draining"]
    submit(client, 1)
    other.send(worker_hello("other", b"2" * 16))
    assert other.until(m.Assign).groups[0].attempt == 1
    again = peers()
    again.send(worker_hello("leaving", b"1" * 16))
    again.until(m.WorkerWelcome)
    again.until(m.Drain)
    again.send(m.Bye("drained"))


def test_a_closed_link_condemns_long_before_the_lease() -> None:
    with peers_of(Broker(lease=3_600.0)) as connect:
        client, dying, other = connect(), connect(), connect()
        dying.send(worker_hello("dying", b"1" * 16))
        client.send(client_hello())
        submit(client, 1)
        dying.until(m.Assign)
        dying.close()
        other.send(worker_hello("other", b"2" * 16))
        # No heartbeats came from the dead node: it is suspected, probed, and its link is closed.
        assert other.until(m.Assign).groups[0].attempt == 2


def test_a_second_node_of_one_name_is_refused_and_the_first_goes_on(peers: Any) -> None:
    client, first, second = peers(), peers(), peers()
    first.send(worker_hello(boot=b"1" * 16))
    first.until(m.WorkerWelcome)
    second.send(worker_hello(boot=b"2" * 16))
    first.send(m.Pong(first.until(m.Ping).counter))
    assert second.until(m.Refused).code == "name-taken"
    client.send(client_hello())
    submit(client, 1)
    assert first.until(m.Assign).groups[0].attempt == 1


def test_a_client_that_vanishes_leaves_no_work_behind() -> None:
    with peers_of(Broker(session_grace=1.0)) as connect:
        node, client, watcher = connect(), connect(), connect()
        node.send(worker_hello())
        client.send(client_hello())
        submit(client, 5)
        assign = node.until(m.Assign)
        client.close()
        watcher.send(client_hello(b"w" * 16))
        watcher.until(m.ClientWelcome)
        node.send(results_of(assign, 1))  # the broker finds the link closed when it passes this on

        def abandoned() -> bool:
            node.send(m.Renew(1, 1, 100, []))
            watcher.send(m.Query(1, "stats", {}))
            data = watcher.until(m.Reply).data
            return bool(data["sessions"] == 1 and data["queued"] == 0)

        eventually(abandoned)


def test_who_is_gone_is_missed_at_once_although_nothing_is_to_be_sent() -> None:
    """Although no lease runs out in this time, and no silent client is asked whether it is there."""
    broker = Broker(module="harness.brokers.asks_nobody", lease=3_600.0, session_grace=0.1)
    observer, client, node = Peer(broker.address), Peer(broker.address), Peer(broker.address)
    try:
        observer.send(client_hello(b"o" * 16))
        observer.until(m.ClientWelcome)
        client.send(client_hello())
        client.until(m.ClientWelcome)
        node.send(worker_hello())
        node.until(m.WorkerWelcome)
        assert stats(observer)["sessions"] == 2
        client.close()
        eventually(lambda: stats(observer)["sessions"] == 1, what="the client is missed")
        node.close()
        eventually(lambda: not stats(observer)["nodes"], what="the node is missed")
        again = Peer(broker.address)  # on a descriptor that was another peer's
        again.send(client_hello(b"a" * 16))
        again.until(m.ClientWelcome)
        assert stats(observer)["sessions"] == 2
        again.close()
    finally:
        observer.close()
        broker.close()
        broker.process.stderr.close()  # type: ignore[union-attr]


def stats(client: Peer) -> Any:
    client.send(m.Query(1, "stats", {}))
    return client.until(m.Reply).data


def test_a_session_resumes_over_a_new_link_with_the_results_it_missed(
    broker: Broker, peers: Any
) -> None:
    node, client = peers(), peers()
    node.send(worker_hello())
    client.send(client_hello())
    submit(client, 1)
    assign = node.until(m.Assign)
    client.close()
    node.send(results_of(assign, 1))
    node.until(m.Ack)
    again = Peer(broker.address)
    again.send(client_hello())
    assert again.until(m.ClientWelcome).resumed
    assert again.until(m.Results).seq == 1
    again.close()


def test_a_node_on_a_new_link_is_told_of_functions_and_options_anew(
    broker: Broker, peers: Any
) -> None:
    client, node = peers(), peers()
    node.send(worker_hello())
    client.send(client_hello())
    client.send(m.Function(FUNCTION, "f", [b"code"]))
    for index in range(2):
        client.send(
            m.Submit([m.SubmitGroup("job", FUNCTION, {"timeout": 9}, index, False, [b"x"])])
        )
        assert node.until(m.Function).digest == FUNCTION
        assign = node.until(m.Assign)
        assert assign.groups[0].options == {"timeout": 9}
        node.send(results_of(assign, 1))
        client.until(m.Results)
        node = peers()
        node.send(worker_hello())
        node.until(m.WorkerWelcome)


def test_a_session_whose_welcome_may_be_lost_is_not_resumed(peers: Any) -> None:
    for _ in range(2):
        client = peers()
        client.send(client_hello())
        assert not client.until(m.ClientWelcome).resumed
    client.send(m.Ping(1))
    again = peers()
    again.send(client_hello())
    assert again.until(m.ClientWelcome).resumed


def test_a_key_is_needed_and_any_other_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cluster.key"
    ClusterKey.new().save(file)
    key = ClusterKey.load(file)
    broker = Broker(key_file=str(file))
    good, keyless, foreign = (
        Peer(broker.address, key),
        Peer(broker.address),
        Peer(broker.address, ClusterKey.new()),
    )
    # The right server key with a client key of one's own making: CURVE alone would let it in.
    stranger = Peer(broker.address)
    stranger.close()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    stranger.socket = context.socket(zmq.DEALER)
    stranger.socket.linger = 0
    stranger.socket.curve_serverkey = key.pair("broker").public
    stranger.socket.curve_publickey, stranger.socket.curve_secretkey = zmq.curve_keypair()
    stranger.socket.connect(broker.address)
    try:
        for peer in (keyless, foreign, stranger):
            peer.send(client_hello(random.randbytes(16)))
        good.send(client_hello())
        assert good.until(m.ClientWelcome)
        good.send(m.Query(1, "stats", {}))
        assert good.until(m.Reply).data["sessions"] == 1
        for peer in (keyless, foreign, stranger):
            assert not peer.socket.poll(50)
    finally:
        for peer in (good, keyless, foreign, stranger):
            peer.close()
        broker.close()
        broker.process.stderr.close()  # type: ignore[union-attr]


def test_an_open_address_without_a_key_is_refused_in_one_line() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "manyhands_broker"),
            *("--config-json", json.dumps({"bind": "tcp://0.0.0.0:0"})),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert "manyhands keys new" in line


def test_a_stopped_broker_blames_nobody_for_the_time_it_missed() -> None:
    broker = Broker(lease=LEASE)
    with peers_of(broker) as connect:
        node, client = connect(), connect()
        node.send(worker_hello())
        client.send(client_hello())
        submit(client, 1)
        assign = node.until(m.Assign)
        os.kill(broker.process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        eventually(lambda: time.monotonic() > stopped + LEASE + 0.5)
        os.kill(broker.process.pid, signal.SIGCONT)
        node.send(results_of(assign, 1))
        [group] = client.until(m.Results).groups
        assert group.attempt == 1
        assert "did not run for" in broker.close()


def test_a_killed_monitor_is_replaced(broker: Broker) -> None:
    def monitors() -> list[psutil.Process]:
        found = []
        for child in psutil.Process(broker.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it is just dying
                if "resource_tracker" not in " ".join(child.cmdline()):
                    found.append(child)
        return found

    [monitor] = eventually(monitors)
    monitor.kill()
    eventually(lambda: [p for p in monitors() if p.pid != monitor.pid], what="a new monitor")
    assert "heartbeat monitor ended" in broker.close()


def test_the_broker_leaves_with_its_parent_and_takes_the_monitor_along(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "manyhands_broker", "--lifeline", str(reader)),
            *("--config-json", json.dumps({"bind": "tcp://127.0.0.1:0"})),
        ],
        pass_fds=[reader],
    )
    os.close(reader)
    children = eventually(lambda: psutil.Process(process.pid).children(recursive=True))
    os.close(writer)
    assert process.wait(timeout=100) == 0
    eventually(lambda: not any(child.is_running() for child in children))
