"""The attacks of the page on security, each tried."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import psutil
import pytest
import zmq

from harness.cluster.bench import Bench
from harness.cluster.keyed import Keyed
from harness.cluster.peers import Peers, client_hello, node_hello
from harness.command import run
from harness.processes import eventually
from harness.threads import no_thread_left
from manyhands_broker.auth import DOMAIN, Gatekeeper, Keyring, secure
from manyhands_broker.ports.zeromq import router_socket
from manyhands_shared.config import BrokerConfig
from manyhands_shared.errors import ConfigError, ProtocolError
from manyhands_shared.protocol import bounds, wire
from manyhands_shared.protocol import messages as m
from manyhands_shared.security import allow_list
from manyhands_shared.security.cluster_key import ClusterKey, KeyPair
from manyhands_shared.transport import address, zmq_pieces

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/security.md"


# An open port is a shell


def test_a_broker_without_a_thread_for_its_authenticator_does_not_start(tmp_path: Path) -> None:
    key = ClusterKey.new()
    gatekeeper = Gatekeeper(key, Keyring(key, tmp_path / "none"))
    told = pytest.raises(ConfigError, match="cannot ask peers for their keys: can't start")
    with no_thread_left(), told, router_socket(gatekeeper):
        pass


def test_curve_alone_lets_nobody_in(keyed: Keyed) -> None:
    public, secret = zmq.curve_keypair()
    stranger = keyed.peer(KeyPair(public, secret))
    stranger.send(client_hello())
    mine = keyed.peer(keyed.cluster.pair("client"))
    mine.hello()
    assert stranger.receive(0.3) is None
    assert mine.ask("stats")["sessions"] == 1


def test_the_domain_is_set_and_enforced(tmp_path: Path) -> None:
    key = ClusterKey.new()
    ring = Keyring(key, tmp_path / "none")
    public = key.pair("client").public
    assert ring.callback(DOMAIN, public)
    assert not ring.callback("", public)
    assert not ring.callback("other", public)
    assert not ring.callback(DOMAIN, zmq.curve_keypair()[0])
    with Peers() as connect:
        router = connect.context.socket(zmq.ROUTER)
        authenticator = secure(connect.context, router, key, ring)
        assert router.zap_domain == DOMAIN.encode()
        assert router.get(zmq.ZAP_ENFORCE_DOMAIN) == 1
        # Without its authenticator it takes no client, rather than every client.
        authenticator.stop()
        port = router.bind_to_random_port("tcp://127.0.0.1")
        pair = key.pair("client")
        peer = connect(
            f"tcp://127.0.0.1:{port}",
            curve_publickey=pair.public,
            curve_secretkey=pair.secret,
            curve_serverkey=key.pair("broker").public,
        )
        peer.send(client_hello())
        assert not router.poll(300)


# The wrong interface


def test_the_default_is_loopback() -> None:
    assert address.is_local(BrokerConfig().bind)


@pytest.mark.parametrize(
    "bind",
    ["tcp://*:0", "tcp://[::]:0", "tcp://127.0.0.1:0,tcp://0.0.0.0:0", "tcp://localhost.example:0"],
)
def test_no_open_address_without_a_key(bind: str) -> None:
    config = json.dumps({"bind": bind})
    done = subprocess.run(
        [sys.executable, "-m", "manyhands_broker", "--config-json", config],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "manyhands keys new" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Script in a job's name; files and addresses given to a reader of logs


def test_names_are_text_and_ids_are_ids(bench: Bench) -> None:
    broker = bench.broker(journal=str(bench.folder / "journal"))
    client = bench.client(broker.address)
    client.submit_job(abs, [(1,)], name="\x1b]0;evil\x07<script>")
    eventually(lambda: client.query("jobs"), what="the broker has it")
    listed = run("jobs", "--broker", broker.address).stdout
    assert "<script>" in listed
    assert "\x1b" not in listed
    assert "\x07" not in listed
    for name in (
        "/etc/passwd",
        "../journal/jobs.sqlite",
        "file:///etc/passwd",
        "http://localhost/",
    ):
        done = run("logs", name, "--broker", broker.address)
        assert done.returncode == 1
        assert "no such job" in done.stderr
        assert done.stdout == ""
        with pytest.raises(Exception, match="no job"):
            client.query("output", id=name)


# Pickle in the broker


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.open, (str(self.file), os.O_CREAT)


@pytest.mark.parametrize("durable", [False, True])
def test_the_broker_loads_no_pickle(bench: Bench, durable: bool) -> None:
    evil = bench.folder / "loaded"
    payload = pickle.dumps(Touch(evil))
    broker = bench.broker(journal=str(bench.folder / "journal"))
    with Peers() as connect:
        client, node = connect(broker.address), connect(broker.address)
        client.hello()
        client.send(m.Function(hashlib.blake2b(payload, digest_size=16).digest(), "f", [payload]))
        digest = hashlib.blake2b(payload, digest_size=16).digest()
        group = m.SubmitGroup("job", digest, {"durable": durable}, 0, True, [payload, (payload,)])
        client.send(m.Submit([group]))
        client.until(m.Accepted)
        client.send(m.Attach("job"))
        node.send(node_hello("node", b"n" * 16))
        done = seq = 0
        while done < 2:
            [given] = node.until(m.Assign).groups
            count = len(given.indices)
            done, seq = done + count, seq + 1
            statuses = bytes([m.Status.RAISED]) * count
            results = m.ResultGroup(
                given.job, given.attempt, given.indices, statuses, [payload] * count, 0.1
            )
            node.send(m.Results(seq, [results]))
        # The broker may read the question before the results: they come over two links.
        eventually(lambda: client.ask("job", id="job")["failed"] == 2)
        for what in ("jobs", "nodes", "events", "stats"):
            client.ask(what)
    assert not evil.exists()


@pytest.mark.parametrize(
    "part",
    ["broker", "worker/manyhands_worker/agent", "shared/manyhands_shared/coordination"],
)
def test_no_module_of_broker_or_host_agent_can_unpickle(part: str) -> None:
    files = list((ROOT / part).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = {
                alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)
            }
            module = getattr(node, "module", None) if isinstance(node, ast.ImportFrom) else None
            imported = {module, *names} if isinstance(node, ast.Import | ast.ImportFrom) else set()
            assert not imported & {"pickle", "cloudpickle", "marshal", "shelve", "dill"}, file
            if module == "manyhands_shared.payloads.pickled":
                assert names <= {"Payload", "Buffer", "total", "nbytes"}, file


# Parser bombs


@pytest.mark.parametrize(
    "header",
    [
        b"\x91" * 100_000,  # arrays in arrays
        b"\x81\xa1a" * 100_000,  # maps in maps
        b"\xdd\xff\xff\xff\xff",  # an array of four billion
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        msgpack.packb([1, msgpack.ExtType(5, b"x")]),
        msgpack.packb([1, {1: 2}]),
        msgpack.packb([8, 1 << 63, *range(100_000)]),
        b"\x00" * (wire.MAX_HEADER_BYTES + 1),
    ],
    ids=lambda header: header[:6].hex(),
)
def test_a_bomb_is_no_message(header: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.decode([header])


def test_frames_are_bounded_in_size_and_number(bench: Bench) -> None:
    with pytest.raises(ProtocolError, match="frames in a message"):
        wire.decode([b""] * (bounds.MAX_FRAMES + 1))
    # What ZeroMQ itself refuses: a frame that claims to be larger than any may be.
    broker = bench.broker()
    with Peers() as connect:
        fair = connect(broker.address)
        fair.hello()
        before = psutil.Process(broker.pid).memory_info().rss
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + bytes(32)
        ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
        claim = b"\x02" + (zmq_pieces.MAX_ZMQ_BYTES + 1).to_bytes(8, "big") + b"x" * 1_000
        with socket.create_connection(("127.0.0.1", broker.port), timeout=100) as sock:
            sock.sendall(greeting + ready + claim)
            while sock.recv(4_096):
                pass  # until it hangs up
        fair.ask("stats")
        assert psutil.Process(broker.pid).memory_info().rss - before < 50 << 20


# Forged heartbeats


def test_no_client_learns_what_heartbeats_are_signed_with(keyed: Keyed) -> None:
    keys = []
    for name in (b"one", b"two"):
        node = keyed.peer(keyed.cluster.pair("worker"))
        node.send(node_hello(name.decode(), name.ljust(16)))
        keys.append(node.until(m.WorkerWelcome).beat_key)
    assert keys[0] != keys[1]
    client = keyed.peer(keyed.cluster.pair("client"))
    client.hello()
    told = msgpack.packb([client.ask(what) for what in ("nodes", "events", "stats", "jobs")])
    for key in keys:
        assert key not in told
        assert key.hex().encode() not in told


# Secrets in listings


def test_secrets_are_in_no_argument_no_environment_and_no_log(keyed: Keyed) -> None:
    alice = keyed.key("alice", "client")
    node = keyed.node(keyed.key("mill", "worker"))
    files = (keyed.cluster_file, alice, keyed.folder / "mill.key")
    secrets = [max(re.findall(r"[0-9a-f]{64}", file.read_text())[:1]) for file in files]
    assert len(set(secrets)) == 3
    with_client = keyed.peer(keyed.cluster.pair("client"))
    with_client.hello()
    eventually(lambda: with_client.ask("nodes"), what="the node has joined")
    seen = keyed.broker.log + node.log + keyed.allowed.read_text()
    for process in (psutil.Process(keyed.broker.pid), psutil.Process(node.pid)):
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                seen += " ".join(one.cmdline()) + str(one.environ())
    seen += (
        str(with_client.ask("nodes")) + run("keys", "list", "--cluster", keyed.cluster_file).stdout
    )
    for file, secret in zip(files, secrets, strict=True):
        assert secret not in seen
        assert f"{file.stat().st_mode & 0o777:o}" == "600"
        assert secret not in run("keys", "show", file).stdout
    assert allow_list.read(keyed.allowed)


# The page


def test_the_page_names_tests_that_exist() -> None:
    rows = re.findall(r"`(\w+(?:/\w+)*\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(rows) >= 9
    for file, name in rows:
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, name
