"""A broker with a journal as a process: killed, started again, out of room, on a failing disk."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import zmq

from harness.brokers.broker_process import Peer, kill, start
from harness.processes import eventually, free_port, without_waits
from manyhands_shared.payloads.payload import Payload
from manyhands_shared.protocol import messages as m

FUNCTION = bytes(16)
TOTAL = 3_000


class Script:
    """A client and a node in one thread: each says what is due whenever something comes."""

    def __init__(self, address: str, rng: random.Random) -> None:
        self.address = address
        self.random = rng
        self.token = rng.randbytes(16)
        self.boot = rng.randbytes(16)
        self.accepted = 0
        self.results: Counter[int] = Counter()
        self.bodies: dict[int, bytes] = {}
        self.runs: Counter[int] = Counter()
        #: What the node has: (index, attempt), and messages that were not acknowledged.
        self.active: dict[int, int] = {}
        self.unacked: dict[int, m.Results] = {}
        self.node_seq = 0
        self.last_seq = 0
        self.client: Peer | None = None
        self.connect()

    def connect(self) -> None:
        """New links for both, as after a lost connection."""
        self.close()
        self.client, self.node = Peer(self.address), Peer(self.address)
        self.last_seq = 0
        self.attached = False
        self.client.send(m.ClientHello(1, self.token, "client", 0, 0, {}))
        holding = [m.Span("job", attempt, [index]) for index, attempt in self.active.items()]
        holding += [
            m.Span(group.job, group.attempt, group.indices)
            for message in self.unacked.values()
            for group in message.groups
        ]
        self.node.send(m.WorkerHello(1, "node", self.boot, 4, 200, holding, {}))

    def close(self) -> None:
        if self.client is not None:
            self.client.close()
            self.node.close()

    def turn(self) -> None:
        """Whatever has come, and what follows from it."""
        zmq.select([self.client.socket, self.node.socket], [], [], 0.2)  # type: ignore[union-attr]
        for peer, handle in ((self.client, self.client_gets), (self.node, self.node_gets)):
            while peer.socket.poll(0):  # type: ignore[union-attr]
                handle(peer.receive())  # type: ignore[union-attr]
        if self.active:
            self.finish()

    def client_gets(self, message: m.Message) -> None:
        assert self.client is not None
        match message:
            case m.ClientWelcome():
                self.client.send(m.Function(FUNCTION, "f", [b"code"]))
                self.submit()
            case m.Accepted(jobs):
                self.accepted = max([self.accepted, *(count.tasks for count in jobs)])
                if not self.attached:
                    self.attached = True
                    self.client.send(m.Attach("job"))
                if self.accepted < TOTAL:
                    self.submit()
            case m.Results(seq, groups):
                if seq > self.last_seq:
                    self.last_seq = seq
                    for group in groups:
                        assert not any(group.statuses)
                        for index, body in zip(group.indices, group.bodies, strict=True):
                            known = self.bodies.setdefault(index, bytes(body))
                            assert known == body, "two different results of one task"
                            self.results[index] += 1
                self.client.send(m.Ack(seq))

    def submit(self) -> None:
        assert self.client is not None
        first = self.accepted
        count = min(self.random.choice([1, 20, 100]), TOTAL - first)
        bodies: list[Payload] = [b"arg%d" % index for index in range(first, first + count)]
        closed = first + count == TOTAL
        group = m.SubmitGroup("job", FUNCTION, {"durable": True}, first, closed, bodies)
        self.client.send(m.Submit([group]))

    def node_gets(self, message: m.Message) -> None:
        match message:
            case m.WorkerWelcome():
                keep = {(i, span.attempt) for span in message.keep for i in span.indices}
                self.active = {i: n for i, n in self.active.items() if (i, n) in keep}
                for unacked in list(self.unacked.values()):
                    self.node.send(unacked)
            case m.Assign(groups):
                for group in groups:
                    for index, body in zip(group.indices, group.bodies, strict=True):
                        assert body == b"arg%d" % index
                        self.active[index] = group.attempt
            case m.Ack(seq):
                for known in [known for known in self.unacked if known <= seq]:
                    del self.unacked[known]
            case m.Recall():
                self.node.send(m.Returned([]))

    def finish(self) -> None:
        """End some of what the node holds. A result names its run, so that two would differ."""
        some = self.random.sample(sorted(self.active), self.random.randint(0, len(self.active)))
        if not some:
            return
        self.node_seq += 1
        groups = []
        for index in some:
            self.runs[index] += 1
            body = b"run %d of %d" % (self.runs[index], index)
            attempt = self.active.pop(index)
            groups.append(m.ResultGroup("job", attempt, [index], bytes(1), [body], 0.0001))
        self.unacked[self.node_seq] = m.Results(self.node_seq, groups)
        self.node.send(self.unacked[self.node_seq])


def turned(script: Script, goal: int) -> None:
    """Let it go on until it has `goal` results."""

    def reached() -> bool:
        script.turn()
        return len(script.bodies) >= goal

    eventually(reached, interval=0, timeout=100, what=f"{goal} results")


def test_kill_9_under_load_loses_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    port = free_port()
    broker = start(tmp_path, port)
    script = Script(broker.address, rng)
    try:
        for _ in range(5):
            goal = len(script.bodies) + rng.randint(50, 300)
            turned(script, goal)
            kill(broker)
            accepted = script.accepted
            broker = start(tmp_path, port)
            script.connect()
            assert script.accepted >= accepted
        turned(script, TOTAL)
        found = ask(script.client, "job", id="job")
        assert (found["state"], found["done"], found["failed"]) == ("done", TOTAL, 0), f"{seed=}"
    finally:
        script.close()
        broker.close()
    # A client that reads the journal afterwards sees each result once, and those that were delivered.
    broker = start(tmp_path, port)
    reader = Script(broker.address, rng)
    try:
        turned(reader, TOTAL)
        assert reader.bodies == script.bodies, f"{seed=}"
        assert set(reader.results.values()) == {1}, f"{seed=}"
    finally:
        reader.close()
        broker.close()


def ask(client: Peer | None, what: str, **arguments: Any) -> Any:
    assert client is not None
    client.send(m.Query(1, what, arguments))
    reply = client.until(m.Reply)
    assert not reply.error
    return reply.data


def test_a_second_broker_on_one_journal_says_so_in_a_line(tmp_path: Path) -> None:
    broker = start(tmp_path, free_port())
    config = {"bind": "tcp://127.0.0.1:0", "journal": str(tmp_path)}
    command = [sys.executable, "-m", "manyhands_broker", "--config-json", json.dumps(config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    broker.close()
    assert second.returncode == 1
    assert "another broker has the journal" in second.stderr
    assert second.stderr.count("\n") == 1


#: A broker on a file layer that fails to flush once a flag file is there.
FAILING = """
import json, os, sys
from pathlib import Path
import apsw

FLAG = sys.argv[1]

class File(apsw.VFSFile):
    def xSync(self, flags):
        if Path(FLAG).exists():
            with open(FLAG, "a") as file:
                file.write("x")
            raise apsw.IOError
        super().xSync(flags)

class Disk(apsw.VFS):
    def __init__(self):
        super().__init__("failing", "unix", makedefault=True)
    def xOpen(self, name, flags):
        return File("unix", name, flags)

if __name__ == "__main__":
    disk = Disk()
    from manyhands_broker.__main__ import main
    del sys.argv[1]
    sys.exit(main())
"""


def test_a_failing_disk_stops_the_broker_before_it_says_anything(tmp_path: Path) -> None:
    flag, script = tmp_path / "fails", tmp_path / "broker.py"
    script.write_text(FAILING)
    config = {"bind": "tcp://127.0.0.1:0", "journal": str(tmp_path / "journal")}
    reader, writer = os.pipe()
    command = [sys.executable, str(script), str(flag), "--ready-fd", str(writer)]
    with subprocess.Popen(
        [*command, "--config-json", json.dumps(config)],
        pass_fds=[writer],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writer)
        with os.fdopen(reader) as file:
            client = Peer(json.loads(file.readline())["address"])
        client.send(m.ClientHello(1, b"t" * 16, "client", 0, 0, {}))
        client.until(m.ClientWelcome)
        flag.touch()
        group = m.SubmitGroup("job", FUNCTION, {"durable": True}, 0, True, [b"x"])
        client.send(m.Submit([group]))
        client.send(m.Bye(""))
        try:
            _, log = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 1
        assert not client.socket.poll(0), "it said something after the failure"
        client.close()
    assert without_waits(log).count("\n") == 1
    assert "cannot write to the journal" in log
    assert flag.read_text() == "x", "the flush was tried again"


def test_a_full_disk_holds_results_back_until_there_is_room(disk: Path) -> None:
    broker = start(disk / "journal", free_port())
    client, node = Peer(broker.address), Peer(broker.address)
    node.send(m.WorkerHello(1, "node", b"b" * 16, 1, 100, [], {}))
    node.until(m.WorkerWelcome)
    client.send(m.ClientHello(1, b"t" * 16, "client", 0, 0, {}))
    client.send(m.Function(FUNCTION, "f", [b"code"]))
    client.send(m.Submit([m.SubmitGroup("job", FUNCTION, {"durable": True}, 0, True, [b"x"])]))
    client.until(m.Accepted)
    client.send(m.Attach("job"))
    [group] = node.until(m.Assign).groups
    with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(1 << 16)):
            pass
    client.send(m.Submit([m.SubmitGroup("more", FUNCTION, {"durable": True}, 0, True, [b"x"])]))
    assert "disk" in client.until(m.Rejected).reason
    body = b"r" * 2_000_000
    node.send(m.Results(1, [m.ResultGroup("job", group.attempt, [0], bytes(1), [body], 0.1)]))
    node.send(m.Renew(7, 1, 100, []))
    assert node.until(m.Lease).counter == 7, "leases go on"
    client.send(m.Ping(3))
    assert client.until(m.Pong).counter == 3
    while client.socket.poll(1_500):
        assert isinstance(client.receive(), m.Ping), "nothing is said of what is not written"
    while node.socket.poll(0):
        assert isinstance(node.receive(), m.Ping | m.Lease), "nor acknowledged"
    (disk / "ballast").unlink()
    [found] = client.until(m.Results).groups
    assert (
        bytes(found.bodies[0][0] if isinstance(found.bodies[0], tuple) else found.bodies[0]) == body
    )
    assert node.until(m.Ack).seq == 1
    client.close()
    node.close()
    log = broker.close()
    broker.process.stderr.close()  # type: ignore[union-attr]
    assert "is full" in log
    assert "room in the journal again" in log
