"""A broker process, and peers that speak to it by hand."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import zmq

from harness.processes import import_path
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol import wire
from manyhands_shared.security.cluster_key import ClusterKey
from manyhands_shared.transport import zmq_pieces

FUNCTION = bytes(16)
#: Peers that speak by hand renew no lease, and are away for as long as a busy machine takes.
PATIENT = {"lease": 3_600.0, "beat_interval": 0.2, "session_grace": 3_600.0}


class Broker:
    """A broker process on a free port.

    Args:
        config: of the broker; and `module`, which it is run as.
    """

    def __init__(self, **config: Any) -> None:
        module = config.pop("module", "manyhands_broker")
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", module, "--ready-fd", str(writer)),
                *("--config-json", json.dumps({"bind": "tcp://127.0.0.1:0", **PATIENT, **config})),
            ],
            pass_fds=[writer],
            stderr=subprocess.PIPE,
            env={**os.environ, **import_path()},
        )
        os.close(writer)
        with os.fdopen(reader) as file:
            line = file.readline()
        assert line, self.process.communicate()[1].decode()
        self.facts = json.loads(line)
        self.address = self.facts["address"]

    def close(self) -> str:
        """End it; returns what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, log = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, log.decode()
        return log.decode()


class Peer:
    """A DEALER that speaks whole messages."""

    def __init__(self, address: str, key: ClusterKey | None = None, role: str = "client") -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.identity = random.randbytes(16)
        if key is not None:
            pair = key.pair(role)
            self.socket.curve_serverkey = key.pair("broker").public
            self.socket.curve_publickey, self.socket.curve_secretkey = pair.public, pair.secret
        self.socket.connect(address)

    def send(self, message: m.Message) -> None:
        self.socket.send_multipart(zmq_pieces.cut(wire.encode(message)))

    def receive(self, timeout: float = 100.0) -> m.Message:
        if not self.socket.poll(int(timeout * 1000)):
            raise TimeoutError("the broker says nothing")
        return wire.decode(zmq_pieces.join(self.socket.recv_multipart()))

    def until(self, kind: type, timeout: float = 100.0) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            message = self.receive(max(0.0, deadline - time.monotonic()))
            if isinstance(message, kind):
                return message

    def close(self) -> None:
        self.socket.close()


def client_hello(token: bytes = b"t" * 16, protocol: int = 1, last_seq: int = 0) -> m.ClientHello:
    return m.ClientHello(protocol, token, "test", last_seq, 0, {})


def worker_hello(name: str = "node", boot: bytes = b"b" * 16, protocol: int = 1) -> m.WorkerHello:
    return m.WorkerHello(protocol, name, boot, 1, 100, [], {})


def submit(client: Peer, count: int, job: str = "job") -> None:
    client.send(m.Function(FUNCTION, "f", [b"code"]))
    client.send(m.Submit([m.SubmitGroup(job, FUNCTION, {}, 0, True, [b"args"] * count)]))


def results_of(assign: m.Assign, seq: int) -> m.Results:
    return m.Results(
        seq,
        [
            m.ResultGroup(
                g.job, g.attempt, g.indices, bytes(len(g.indices)), [b"r"] * len(g.indices), 0.1
            )
            for g in assign.groups
        ],
    )


def start(place: Path, port: int) -> Broker:
    return Broker(bind=f"tcp://127.0.0.1:{port}", journal=str(place))


def kill(broker: Broker) -> None:
    """SIGKILL, and wait until it and its monitor are gone."""
    children = psutil.Process(broker.process.pid).children(recursive=True)
    broker.process.send_signal(signal.SIGKILL)
    broker.process.communicate(timeout=120)
    psutil.wait_procs(children, timeout=120)
