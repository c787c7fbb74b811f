"""What another host sees of a keyed cluster, and a node behind a router that lets nothing in."""

from __future__ import annotations

import random
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from harness.cluster.hosts import PORT, Keyed
from harness.cluster.parts import Node
from harness.cluster.peers import Peer, Peers, client_hello, node_hello
from harness.processes import eventually
from manyhands.testbed import Host, Network
from manyhands_shared.protocol import messages as m
from manyhands_shared.security.cluster_key import ClusterKey

#: Seconds in which a stranger would have had an answer many times over.
SILENCE = 0.5
#: And in which what listens takes a connection, on a machine that is busy.
BOUND = 60.0


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    with ExitStack() as stack:
        yield Keyed(stack.enter_context(Network(2)), stack, tmp_path)


def test_a_port_scans_view_of_a_keyed_cluster(keyed: Keyed) -> None:
    keyed.node(keyed.home)

    # What there is to find: the broker's port, of either kind, and one at which the node serves results.
    # Clients listen nowhere.
    mine = {("tcp", PORT), ("udp", PORT)}
    eventually(lambda: open_ports(keyed.cluster.pids[0]) > mine, what="the node serves results")
    [(kind, results)] = open_ports(keyed.cluster.pids[0]) - mine
    assert kind == "tcp"

    with keyed.others[0].inside():
        every = {*range(1, 20_000), results}
        assert {port for port in every if answers(keyed.home, port)} == {PORT, results}
        # It says that it speaks ZeroMQ and wants a key, and nothing else, whatever it is told.
        rng = random.Random(7)
        for said in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", rng.randbytes(100), b"\xff" * 64):
            heard = exchange(keyed.home, said)
            assert heard == b"" or heard[:1] == b"\xff"
            assert len(heard) <= 64
            assert heard[12:32].strip(b"\0") in (b"", b"CURVE")
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.settimeout(SILENCE)
            for size in (0, 1, 112, 1_400):
                udp.sendto(rng.randbytes(size), (keyed.home.address, PORT))
            with pytest.raises(TimeoutError):
                udp.recv(1)
        with Peers() as connect:
            strangers = list(without_a_key(connect, keyed))
            for peer in strangers:
                for message in (
                    client_hello(),
                    node_hello("stranger", secrets.token_bytes(16)),
                    m.Function(bytes(16), "f", [b"code"]),
                    m.Submit([m.SubmitGroup("job", bytes(16), {}, 0, True, [b"a"])]),
                ):
                    with suppress(zmq.Again):
                        peer.send(message)
            assert [peer.receive(SILENCE) for peer in strangers] == [None] * len(strangers)

    # Nothing of it came to anything, and those with a key work on.
    stats = keyed.client.query("stats")
    assert (stats["sessions"], stats["nodes"], stats["jobs"]) == (1, 1, 0)
    assert "strangers" not in stats["counters"]
    assert keyed.client.query("jobs") == []
    assert keyed.client.submit_job(pow, [(2, 3)]).results() == [8]


def open_ports(pid: int) -> set[tuple[str, int]]:
    """What is listened on in the network of a process: kind and port."""
    found = set()
    for kind, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            _, local, _, status = line.split()[:4]
            if status == state:
                found.add((kind[:3], int(local.rpartition(":")[2], 16)))
    return found


def answers(host: Host, port: int) -> bool:
    """Whether something takes connections there."""
    with socket.socket() as sock:
        sock.settimeout(BOUND)
        return sock.connect_ex((host.address, port)) == 0


def exchange(host: Host, said: bytes) -> bytes:
    """Return all that the peer answers to these bytes."""
    heard = b""
    with socket.create_connection((host.address, PORT)) as sock, suppress(OSError):
        sock.settimeout(SILENCE)
        sock.sendall(said)
        while part := sock.recv(4_096):
            heard += part
    return heard


def without_a_key(connect: Peers, keyed: Keyed) -> Iterator[Peer]:
    """Peers without any key; with keys of their own; and with these and the broker's public key."""
    address = f"tcp://{keyed.home.address}:{PORT}"
    yield connect(address)
    for server in (
        ClusterKey.new().pair("broker").public,
        ClusterKey.load(Path(keyed.key_file)).pair("broker").public,
    ):
        public, secret = zmq.curve_keypair()
        yield connect(
            address,
            curve_publickey=public,
            curve_secretkey=secret,
            curve_serverkey=server,
        )


@pytest.fixture
def behind(keyed: Keyed) -> Iterator[str]:
    """The name of a namespace behind the other host, which translates addresses and lets nothing in."""
    name = f"mh-behind-{secrets.token_hex(3)}"
    outside, inside = f"o{name[-6:]}", f"i{name[-6:]}"
    steps = (
        f"ip netns add {name}",
        f"ip link add {outside} type veth peer name {inside} netns {name}",
        f"ip address add 192.168.77.1/24 dev {outside}",
        f"ip link set {outside} up",
        f"ip -n {name} address add 192.168.77.2/24 dev {inside}",
        f"ip -n {name} link set {inside} up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} route add default via 192.168.77.1",
        "iptables -t nat -A POSTROUTING -s 192.168.77.0/24 -j MASQUERADE",
        "iptables -A FORWARD -i eth0 -m conntrack --ctstate NEW -j DROP",
    )
    try:
        with keyed.others[0].inside():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            for step in steps:
                done = subprocess.run(step.split(), capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"no address translation here: {step}: {done.stderr.strip()}")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_a_node_behind_nat_works(keyed: Keyed, behind: str, tmp_path: Path) -> None:
    node = Node(
        tmp_path,
        f"tcp://{keyed.home.address}:{PORT}",
        "hidden",
        prefix=("ip", "netns", "exec", behind),
        key_file=keyed.key_file,
    )
    try:
        keyed.joined(1)
        with keyed.home.inside(), socket.socket() as sock:
            # From here there is no way to it.
            assert sock.connect_ex(("192.168.77.2", PORT))
        executor = keyed.connect(keyed.home)
        assert list(executor.map(abs, range(-200, 0))) == list(range(200, 0, -1))
        # Large ones come through the broker, both ways.
        large = b"x" * 20_000_000
        assert executor.submit(bytes.upper, large).result(100) == large.upper()
        eventually(lambda: keyed.client.query("nodes")[0]["beats"] > 2, what="heartbeats arrive")
        eventually(lambda: keyed.client.query("nodes")[0]["state"] == "ready", what="it is calm")
    finally:
        node.close()
