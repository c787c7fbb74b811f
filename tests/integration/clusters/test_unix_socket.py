"""Clusters on a Unix socket: who is let in, and what becomes of links whose broker dies."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import manyhands
from harness.brokers.broker_process import Broker
from harness.command import run
from harness.processes import eventually
from manyhands._io import inline
from manyhands_shared.errors import ExitCode

BOUND = 110.0


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    with manyhands.LocalCluster(1, 1, broker={"bind": f"unix://{place}"}) as cluster:
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        with manyhands.Executor(address=cluster.address) as executor:
            assert executor.submit(abs, -1).result(BOUND) == 1
    assert not place.exists()


def test_the_place_of_a_broker_that_was_killed_is_taken(tmp_path: Path) -> None:
    place = tmp_path / "socket"
    address = f"unix://{place}"
    first = Broker(bind=address)
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate(timeout=120)
    assert place.exists()
    second = Broker(bind=address)
    try:
        result = run("broker", "--bind", address)
        assert result.returncode == 2, result
        assert "Address already in use; choose another with --bind" in result.stderr
        assert result.stderr.count("\n") == 1
    finally:
        second.close()


def test_links_are_made_anew_when_the_broker_is_back(tmp_path: Path) -> None:
    address = f"unix://{tmp_path / 'socket'}"
    journal = str(tmp_path / "journal")
    options = {"journal": journal, "session_grace": 100.0, "lease": 100.0}
    broker = Broker(bind=address, **options)
    node = subprocess.Popen(
        [sys.executable, "-m", "manyhands.cli", "worker", "--broker", address, "--slots", "1"],
        stderr=subprocess.PIPE,
    )
    try:
        with manyhands.Executor(address=address, durable=True) as executor:
            assert executor.submit(abs, -1).result(BOUND) == 1
            broker.process.send_signal(signal.SIGKILL)
            broker.process.communicate(timeout=120)
            waiting = [executor.submit(abs, -number) for number in range(100)]
            broker = Broker(bind=address, **options)
            assert [future.result(BOUND) for future in waiting] == list(range(100))
    finally:
        node.send_signal(signal.SIGTERM)
        node.communicate(timeout=60)
        broker.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_other_users_are_refused() -> None:
    with manyhands.LocalCluster(nodes=1, slots=1) as cluster:
        assert cluster.address.startswith("unix://@")
        script = (
            "import manyhands, os, sys\n"
            # Loads all that is needed: another user may not be able to read the files.
            "manyhands.Client(sys.argv[1]).close()\n"
            "os.setuid(65534)\n"
            "try:\n"
            "    manyhands.Client(sys.argv[1])\n"
            "except manyhands.NotAuthorised as error:\n"
            "    print(error)\n"
        )
        command = [sys.executable, "-c", script, cluster.address]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "another user's (0, and you are 65534)" in said.stdout
        with manyhands.Executor(address=cluster.address) as executor:
            assert executor.submit(abs, -1).result(BOUND) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_other_users_brokers_are_not_spoken_to() -> None:
    address = f"unix://@manyhands-test-{os.getpid()}-foreign"
    script = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind(sys.argv[1].replace('unix://@', chr(0)))\n"
        "listener.listen()\n"
        "print('listens', flush=True)\n"
        "while True:\n"
        "    peer, _ = listener.accept()\n"
        "    print(peer.recv(1), flush=True)\n"
    )
    command = [sys.executable, "-c", script, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "listens\n"
            with pytest.raises(manyhands.NotAuthorised, match="another user's"):
                manyhands.Client(address)
            assert other.stdout.readline() == "b''\n", "nothing was said"
            left = run("worker", "--broker", address)
            assert left.returncode == ExitCode.NOT_AUTHORISED, left.stderr
            assert "another user's" in left.stderr
            assert other.stdout.readline() == "b''\n"
        finally:
            other.kill()


def test_a_lone_task_is_sent_by_the_thread_that_submits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # By their number alone, however long they take, are calls entered into the session.
    monkeypatch.setattr(inline, "KEEP_SECONDS", 600.0)
    with manyhands.Executor(1) as executor:
        executor.submit(abs, -1).result(BOUND)
        queue = executor._connection.io.queue
        woken = 0

        def wake() -> None:
            nonlocal woken
            woken += 1
            type(queue).wake(queue)

        queue.wake = wake  # type: ignore[method-assign]
        eventually(lambda: queue.asleep, what="the I/O thread sleeps")
        for number in range(50):
            assert executor.submit(abs, -number).result(BOUND) == number
        assert woken < 25, "it was woken for tasks that it need not have been woken for"
        futures = [executor.submit(abs, -number) for number in range(500)]
        assert [future.result(BOUND) for future in futures] == list(range(500))
