"""Durable jobs on whole clusters: from the shell and the library, over deaths of the broker."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import manyhands
from harness.command import document, fails, run, start
from harness.processes import Gate, eventually, free_port, wait_at
from manyhands._results.inbox import BoundedInbox

WORK = """
import fcntl
from pathlib import Path

def slow(number, folder):
    with (Path(folder) / f"ran-{number}").open("a") as file:
        file.write("x")
    print("working on", number)
    with (Path(folder) / "gate").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)
    return number * number

def picky(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number

def total(squares):
    return sum(squares)

def flaky(folder):
    with (Path(folder) / "tries").open("a") as file:
        file.write("x")
    if (Path(folder) / "tries").stat().st_size < 3:
        raise OSError("not yet")
    return "at last"
"""


class Cluster:
    """A broker with a journal, which can be killed and started again at the same port, and a node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_port()}"
        self.journal = folder / "journal"
        self.broker = self._broker()
        self.node = self._start("worker", "--broker", self.address, "--slots", "2")
        self.environment = {
            "MANYHANDS_BROKER": self.address,
            "MANYHANDS_CONNECT_TIMEOUT": "100",
        }

    def _start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "manyhands.cli", *map(str, arguments)]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _broker(self) -> subprocess.Popen[bytes]:
        # However busy the machine is, the node is not given up.
        options = ("--journal", self.journal, "--keep-results", "1h", "--lease", "2m")
        return self._start("broker", "--bind", self.address, *options)

    def restart(self) -> None:
        """kill -9, and again at the same port with the same journal."""
        self.broker.kill()
        self.broker.wait(60)
        self.broker = self._broker()

    def close(self) -> None:
        # The node first: it would wait for the broker to acknowledge its last results.
        for process in (self.node, self.broker):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)

    def run(self, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return run(*arguments, cwd=self.folder, stdin=stdin, env=self.environment)


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("durable")
    (folder / "work.py").write_text(WORK)
    running = Cluster(folder)
    try:
        with manyhands.Client(running.address, connect_timeout=120) as client:
            client.wait_for_nodes(1)
        yield running
    finally:
        running.close()


def test_a_detached_job_outlives_its_client_and_two_brokers(
    cluster: Cluster, tmp_path: Path, gate: Gate
) -> None:
    items = "".join(json.dumps([number, str(tmp_path)]) + "\n" for number in range(6))
    told = cluster.run("submit", "work:slow", "--input", "-", "--star", stdin=items)
    assert told.returncode == 0, told.stderr
    job = told.stdout.strip()
    eventually(lambda: len(list(tmp_path.glob("ran-*"))) == 2, what="two tasks run")
    cluster.restart()
    assert cluster.run("pause", job[:8]).stdout == f"{job} paused\n"
    cluster.restart()
    info = document(cluster.run("show", job, "--json"))["job"]
    assert (info["state"], info["tasks"], info["durable"]) == ("paused", 6, True)
    assert f"manyhands resume {job}" in cluster.run("why", job).stdout
    waited = cluster.run("wait", job, "--timeout", "0.1s")
    assert "goes on" in fails(waited, 124)
    reader = start("results", job, cwd=cluster.folder, env=cluster.environment)
    assert cluster.run("resume", job).stdout == f"{job} resumed\n"
    gate.open()
    waited = cluster.run("wait", job, "--timeout", "100s")
    assert (waited.returncode, waited.stdout) == (0, f"{job} done\n"), waited.stderr
    expected = {number: number * number for number in range(6)}
    streamed, errors = reader.communicate(timeout=120)
    assert reader.returncode == 0, errors
    cluster.restart()
    again = cluster.run("results", job)
    for text in (streamed, again.stdout):
        entries = [json.loads(line) for line in text.splitlines()]
        assert len(entries) == 6, "each result once"
        assert {entry["index"]: entry["result"] for entry in entries} == expected
    assert "5: working on 5" in cluster.run("logs", job).stdout.splitlines()
    assert cluster.run("why", job).stdout == "it is over: done\n"
    runs = [path.stat().st_size for path in tmp_path.glob("ran-*")]
    assert sum(runs) == 6, "the node kept what it ran while the broker was away"


def test_failed_tasks_are_run_again_after_a_restart_and_forgotten(cluster: Cluster) -> None:
    job = cluster.run("submit", "work:picky", "--input", "-", stdin="0\n1\n2\n3\n").stdout.strip()
    assert cluster.run("wait", job).stdout == f"{job} failed\n"
    results = cluster.run("results", job)
    assert "2 of 4 tasks failed" in fails(results, 1)
    cluster.restart()
    again = document(cluster.run("retry", "--failed", job, "--json"))
    assert again["tasks"] == 2
    assert cluster.run("wait", again["job"]).stdout == f"{again['job']} failed\n"
    entries = [
        json.loads(line) for line in cluster.run("results", again["job"]).stdout.splitlines()
    ]
    messages = {entry["index"]: entry["error"]["message"] for entry in entries}
    assert messages == {0: "1 is odd", 1: "3 is odd"}
    assert cluster.run("forget", job).stdout == f"{job} forgotten\n"
    assert "no such job" in fails(cluster.run("show", job), 1)


def test_retries_and_jobs_that_come_after_others(cluster: Cluster, tmp_path: Path) -> None:
    first = cluster.run(
        "submit", "builtins:abs", "--input", "-", stdin="-1\n-2\n-3\n"
    ).stdout.strip()
    second = cluster.run("submit", "work:total", "--after", first).stdout.strip()
    assert cluster.run("wait", second).returncode == 0
    assert json.loads(cluster.run("results", second).stdout) == {"index": 0, "result": 6}
    flaky = cluster.run(
        *("submit", "work:flaky", str(tmp_path), "--retries", "5"),
        *("--retry-on", "OSError", "--retry-delay", "0.01s"),
    ).stdout.strip()
    assert json.loads(cluster.run("results", flaky).stdout)["result"] == "at last"


def test_the_library_attaches_to_what_another_client_left(cluster: Cluster) -> None:
    with manyhands.Client(cluster.address) as client:
        left = client.submit_job(divmod, [(number, 7) for number in range(1000)], durable=True)
        assert left.tasks == 1000
    with manyhands.Client(cluster.address) as client:
        job = client.attach(left.id)
        assert job.results() == [divmod(number, 7) for number in range(1000)]
        assert job.results() == [divmod(number, 7) for number in range(1000)]
        assert job.wait(1)
        assert job.state() == "done"
        with pytest.raises(manyhands.Refused, match="no job"):
            client.attach("nothing")
        with pytest.raises(manyhands.SubmitRejected, match="not known"):
            client.submit_job(abs, [(1,)], after="nothing")


def test_a_client_that_reads_goes_on_over_a_restart(
    cluster: Cluster, tmp_path: Path, gate: Gate
) -> None:
    def slow(number: int, folder: str) -> int:  # within the test, so that it travels by value
        (Path(folder) / f"ran-{number}").touch()
        with (Path(folder) / "gate").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        return number

    with manyhands.Client(cluster.address) as client:
        calls = [(number, str(tmp_path)) for number in range(4)]
        job = client.submit_job(slow, calls, durable=True, timeout=100)
        eventually(lambda: len(list(tmp_path.glob("ran-*"))) == 2, what="two tasks run")
        cluster.restart()
        gate.open()
        assert sorted(job) == [(number, number) for number in range(4)]


def test_durable_futures_outlive_the_broker(cluster: Cluster) -> None:
    with manyhands.Executor(address=cluster.address) as executor:
        durable = executor.with_options(durable=True, timeout=100)
        futures = [durable.submit(pow, number, 2) for number in range(300)]
        cluster.restart()
        futures += [durable.submit(pow, number, 2) for number in range(300, 400)]
        assert [future.result(60) for future in futures] == [number**2 for number in range(400)]


def here(job: manyhands.Job) -> int:
    """Bytes of results that have come and were not read."""
    return len(job._inbox.arrived) * 100_000


def piece(number: int, gate: Path | None = None) -> bytes:
    """A result of 100 KB, once the gate is open."""
    if gate is not None:
        wait_at(gate)
    return number.to_bytes(4, "big") * 25_000


def test_a_reader_that_is_slow_leaves_results_with_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, count = 1 << 20, 500
    monkeypatch.setattr("manyhands.job.BoundedInbox", partial(BoundedInbox, full_bytes=full))
    first, gate = 50, Gate(tmp_path / "gate")
    options = {"journal": str(tmp_path / "journal")}
    with (
        manyhands.LocalCluster(nodes=1, slots=1, broker=options) as cluster,
        manyhands.Client(cluster.address) as client,
    ):
        calls = [(number, None if number < first else gate.path) for number in range(count)]
        job = client.submit_job(piece, calls, durable=True)
        results = iter(job)
        found = dict([next(results)])
        eventually(lambda: here(job) > full, what="it has asked the broker to stop")
        # Behind that on the same link; only now come the other results.
        client.query("stats")
        gate.open()
        assert job.wait(100)
        # What was on its way when it was asked to stop, and no more.
        assert full < here(job) <= first * 100_000
        found.update(results)
        assert found == {number: piece(number) for number in range(count)}


def test_submit_reads_a_pipe_and_leaves_nothing_of_a_wrong_file(cluster: Cluster) -> None:
    job = cluster.run("submit", "builtins:len", "--input", "-", "--lines", stdin="ab\n\n").stdout
    assert cluster.run("wait", job.strip()).returncode == 0
    output = cluster.folder / "results.jsonl"
    cluster.run("results", job.strip(), "--output", output)
    before = output.read_text()
    found = {entry["index"]: entry["result"] for entry in map(json.loads, before.splitlines())}
    assert found == {0: 2, 1: 0}
    assert "--overwrite" in fails(cluster.run("results", job.strip(), "--output", output), 2)
    assert output.read_text() == before
    told = cluster.run("results", job.strip(), "--output", output, "--overwrite")
    assert told.returncode == 0
    jobs = document(cluster.run("jobs", "--json"))["jobs"]
    (cluster.folder / "items").write_text("1\n" * 40_000 + "oops\n")
    wrong = cluster.run("submit", "math:sqrt", "--input", "items")
    assert "line 40001 of items" in fails(wrong, 2)
    assert document(cluster.run("jobs", "--json"))["jobs"] == jobs
    for useless in (["--star"], ["--lines"], ["--arg", "1"]):
        told = cluster.run("submit", "math:sqrt", "4", *useless)
        assert "are for --input" in fails(told, 2)
