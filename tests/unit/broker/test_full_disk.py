"""A disk that is completely full can be read and have room made on it. And a directory that is gone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.brokers.broker_process import Broker, Peer, kill, start
from harness.processes import free_port, without_waits
from manyhands_shared.protocol import messages as m
from manyhands_shared.protocol.messages import Status

FUNCTION = bytes(16)
LARGE = 600_000


def client(broker: Broker, token: bytes = b"t") -> Peer:
    peer = Peer(broker.address)
    peer.send(m.ClientHello(1, token * 16, "client", 0, 0, {}))
    peer.until(m.ClientWelcome)
    return peer


def node(broker: Broker) -> Peer:
    peer = Peer(broker.address)
    peer.send(m.WorkerHello(1, "node", b"b" * 16, 1, 100, [], {}))
    peer.until(m.WorkerWelcome)
    return peer


def ask(peer: Peer, what: str, **arguments: Any) -> Any:
    peer.send(m.Query(1, what, arguments))
    reply = peer.until(m.Reply)
    assert not reply.error, reply.error
    return reply.data


def submit(peer: Peer, job: str, **options: Any) -> m.Message:
    peer.send(m.Function(FUNCTION, "f", [b"code"]))
    options = {"durable": True, **options}
    peer.send(m.Submit([m.SubmitGroup(job, FUNCTION, options, 0, True, [job.encode()])]))
    accepted: m.Accepted = peer.until(m.Accepted)
    return accepted


def run(worker: Peer, seq: int, body: bytes) -> None:
    """Have the node end the task that it is given."""
    [group] = worker.until(m.Assign).groups
    result = m.ResultGroup(group.job, group.attempt, group.indices, bytes(1), [body], 0.1)
    worker.send(m.Results(seq, [result]))


def fill(disk: Path) -> None:
    """Take the last byte."""
    with (disk / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
        for size in (1 << 16, 1):
            with contextlib.suppress(OSError):
                while ballast.write(bytes(size)):
                    pass


def body_of(message: m.Results) -> bytes:
    [group] = message.groups
    [body] = group.bodies
    return bytes(body[0]) if isinstance(body, tuple) else bytes(body)


def with_old_jobs(disk: Path, count: int = 6, size: int = LARGE) -> tuple[Broker, Peer, Peer]:
    """A broker with jobs that are over, each with a result of that size, and one that runs."""
    broker = start(disk / "journal", free_port())
    worker, first = node(broker), client(broker)
    for number in range(count):
        submit(first, f"old-{number}")
        run(worker, number + 1, b"%d" % number * size)
        worker.until(m.Ack)
    submit(first, "now")
    return broker, worker, first


def test_with_a_full_disk_clients_come_in_read_and_make_room(disk: Path) -> None:
    broker, worker, first = with_old_jobs(disk)
    fill(disk)
    run(worker, 7, b"n" * LARGE)
    while worker.socket.poll(300):
        assert isinstance(worker.receive(), m.Ping), "what is not written is not acknowledged"
    first.send(m.Attach("now"))
    # Others come in, see what there is, read it, and are turned down with a reason.
    second = client(broker, b"u")
    states = {job["id"]: job["state"] for job in ask(second, "jobs")}
    assert states["old-3"] == "done"
    second.send(m.Attach("old-3"))
    assert body_of(second.until(m.Results)) == b"3" * LARGE
    second.send(m.Submit([m.SubmitGroup("new", FUNCTION, {"durable": True}, 0, True, [b"x"])]))
    assert "full" in second.until(m.Rejected).reason
    while first.socket.poll(0):
        assert isinstance(first.receive(), m.Ping), "what is not written is not told"
    # Room is made.
    for number in (0, 1, 2):
        assert ask(second, "forget", id=f"old-{number}")["forgotten"]
    assert body_of(first.until(m.Results)) == b"n" * LARGE
    assert worker.until(m.Ack).seq == 7
    assert ask(second, "job", id="now")["state"] == "done"
    for peer in (first, second, worker):
        peer.close()
    kill(broker)
    broker = start(disk / "journal", free_port())
    again = client(broker)
    assert {job["id"] for job in ask(again, "jobs")} == {"old-3", "old-4", "old-5", "now"}
    again.close()
    log = broker.close()
    assert "Traceback" not in log


@pytest.mark.parametrize("size", [LARGE, LARGE // 3], ids=["files", "rows"])
def test_a_broker_starts_on_a_full_disk_and_has_room_made(disk: Path, size: int) -> None:
    """The log of large files fits into the database, and begins anew; that of large rows does not."""
    broker, worker, first = with_old_jobs(disk, size=size)
    for peer in (worker, first):
        peer.close()
    kill(broker)
    fill(disk)
    broker = start(disk / "journal", free_port())
    reader = client(broker)
    assert len(ask(reader, "jobs")) == 7
    reader.send(m.Attach("old-5"))
    assert body_of(reader.until(m.Results)) == b"5" * size
    for number in range(5):
        ask(reader, "forget", id=f"old-{number}")
    worker = node(broker)
    run(worker, 1, b"n" * LARGE)
    reader.send(m.Attach("now"))
    assert body_of(reader.until(m.Results)) == b"n" * LARGE
    for peer in (worker, reader):
        peer.close()
    log = broker.close()
    assert "is full" in log
    assert "Traceback" not in log


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_directory_that_is_gone_is_said_at_once(tmp_path: Path, how: str) -> None:
    place = tmp_path / "journal"
    broker = start(place, free_port())
    worker, first = node(broker), client(broker)
    submit(first, "old")
    run(worker, 1, b"r")
    worker.until(m.Ack)
    shutil.rmtree(place)
    if how == "replaced":
        place.mkdir()
        (place / "journal.db").write_bytes(b"of another")
    first.send(m.Submit([m.SubmitGroup("new", FUNCTION, {"durable": True}, 0, True, [b"x"])]))
    assert "was removed or replaced" in first.until(m.Rejected).reason
    # Attached jobs go on, and what the broker has is there to be read.
    submit(first, "attached", durable=False)
    run(worker, 2, b"fine")
    [group] = first.until(m.Results).groups
    assert (group.job, group.statuses) == ("attached", bytes([Status.OK]))
    first.send(m.Ack(1))
    first.send(m.Attach("old"))
    assert body_of(first.until(m.Results)) == b"r"
    for peer in (worker, first):
        peer.close()
    log = broker.close()
    assert "bug" not in log
    if how == "replaced":
        assert [file.name for file in place.iterdir()] == ["journal.db"], "it is left as it is"
    else:
        assert not place.exists(), "nothing is put in its place"


def test_results_that_can_be_kept_nowhere_stop_the_broker_with_a_line(tmp_path: Path) -> None:
    place = tmp_path / "journal"
    config = {"bind": "tcp://127.0.0.1:0", "journal": str(place)}
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "manyhands_broker", "--ready-fd", str(writer)]
    with subprocess.Popen(
        [*command, "--config-json", json.dumps(config)],
        pass_fds=[writer],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writer)
        with os.fdopen(reader) as file:
            address = json.loads(file.readline())["address"]
        broker = type("Started", (), {"address": address})()
        worker, first = node(broker), client(broker)
        submit(first, "job")
        shutil.rmtree(place)
        run(worker, 1, b"r")
        try:
            _, log = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        for peer in (worker, first):
            peer.close()
    assert process.returncode == 1
    assert without_waits(log).count("\n") == 1, log
    assert "was removed or replaced while the broker ran" in log
