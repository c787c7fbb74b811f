"""`manyhands up`, `broker`, `worker`, `jobs`, `nodes`, `cancel`, `health`: a cluster from the shell."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from harness.command import document, ended, fails, first_line, nodes, run, running, start
from harness.processes import eventually
from manyhands import Client, LocalCluster
from manyhands.cli._announced import find
from manyhands_shared.transport.address import DEFAULT_PORT


@pytest.mark.xdist_group("usual port")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_runs_until_it_is_told_to_end(number: int) -> None:
    process = start("up", "--nodes", "2", "--slots", "1", "--json")
    try:
        told = json.loads(first_line(process))
        assert told["version"] == 1
        assert len(told["pids"]) == 3
        eventually(lambda: len(nodes(env={"MANYHANDS_BROKER": told["address"]})) == 2)
        result = run("run", "math:sqrt", "4", env={"MANYHANDS_BROKER": told["address"]})
        assert result.stdout == "2.0\n"
    finally:
        code, errors = ended(process, number)
    assert code == 0, errors
    assert "Traceback" not in errors


@pytest.mark.xdist_group("usual port")
def test_up_is_found_without_a_word(tmp_path: Path) -> None:
    key = tmp_path / "the key"
    process = start("up", "--nodes", "1", "--key-file", key)
    try:
        line = first_line(process)
        found = re.fullmatch(r"export MANYHANDS_BROKER=(tcp://127\.0\.0\.1:\d+)\n", line)
        assert found is not None
        assert process.stdout is not None
        assert process.stdout.readline() == f"export MANYHANDS_KEY_FILE='{key}'\n"
        told = f"no broker named: working with that of `manyhands up`, {found[1]}\n"
        for verb in (["nodes"], ["jobs"], ["run", "math:sqrt", "4"]):
            result = run(*verb, cwd=tmp_path)
            assert result.returncode == 0
            assert told in result.stderr
        assert result.stdout == "2.0\n"
        # A broker that is named in whatever way is meant.
        (tmp_path / "manyhands.toml").write_text('[client]\nbroker = "udp://x"\n')
        assert "udp://x" in fails(run("nodes", cwd=tmp_path), 2)
        for other in ("--broker", "udp://y"), ():
            result = run("nodes", *other, env={"MANYHANDS_BROKER": "udp://y"})
            assert "udp://y" in fails(result, 2)
        # Another one is not in its way.
        second = start("up", "--nodes", "0")
        assert f"export MANYHANDS_BROKER={found[1]}\n" != first_line(second)
        _, errors = ended(second, signal.SIGINT)
        assert f"commands find the cluster that was there before, at {found[1]}" in errors
        assert run("jobs").returncode == 0
    finally:
        code, errors = ended(process, signal.SIGINT)
        code, errors = ended(process, signal.SIGINT)
    assert code == 0, errors
    assert "nodes: 1, slots of each: 1" in errors
    assert find() is None
    assert not list(Path(os.environ["MANYHANDS_RUNTIME_DIR"]).iterdir())


@pytest.mark.xdist_group("usual port")
def test_up_says_that_another_has_the_usual_port() -> None:
    with socket.create_server(("127.0.0.1", DEFAULT_PORT)):
        process = start("up", "--nodes", "0")
        line = first_line(process)
        code, errors = ended(process, signal.SIGINT)
    assert code == 0, errors
    assert f"port {DEFAULT_PORT} is taken, so the broker listens on another" in errors
    assert re.fullmatch(r"export MANYHANDS_BROKER=tcp://127\.0\.0\.1:\d+\n", line)
    assert not line.endswith(f":{DEFAULT_PORT}\n")


@pytest.mark.xdist_group("usual port")
def test_of_many_up_at_once_one_takes_the_usual_port_and_all_run() -> None:
    processes = [start("up", "--nodes", "0", "--http", "") for _ in range(4)]
    try:
        ports = [int(first_line(process).rpartition(":")[2]) for process in processes]
    finally:
        codes = [ended(process, signal.SIGINT)[0] for process in processes]
    assert codes == [0] * 4
    assert ports.count(DEFAULT_PORT) == 1
    assert len(set(ports)) == 4


def test_up_does_not_take_another_port_than_the_one_that_it_was_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"cannot listen on tcp://127.0.0.1:{port}" in run("up", "--port", str(port)).stderr


@pytest.mark.xdist_group("usual port")
def test_up_ends_when_its_broker_does() -> None:
    with running("up", "--nodes", "1", "--json") as process:
        os.kill(json.loads(first_line(process))["pids"][0], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "error: the broker ended" in errors


def test_a_keyed_cluster_from_the_shell(tmp_path: Path) -> None:
    key = tmp_path / "cluster.key"
    broker = start(
        "broker", "--bind", "tcp://127.0.0.1:0", "--key-file", key, "--create-key", "--json"
    )
    try:
        told = json.loads(first_line(broker))
        environment = {"MANYHANDS_BROKER": told["address"], "MANYHANDS_KEY_FILE": str(key)}
        worker = start("worker", "--slots", "1", "--name", "one", env=environment)
        try:
            eventually(lambda: [node["name"] for node in nodes(env=environment)] == ["one"])
            assert run("run", "math:sqrt", "9", env=environment).stdout == "3.0\n"
            _refused(told["address"], tmp_path)
        finally:
            code, errors = ended(worker, signal.SIGTERM)
        assert code == 0, errors
        assert "Traceback" not in errors
        eventually(lambda: not nodes(env=environment))
    finally:
        code, errors = ended(broker, signal.SIGTERM)
    assert code == 0, errors
    assert "listening on" in errors
    assert "Traceback" not in errors


def test_a_drained_node_finishes_and_leaves(tmp_path: Path) -> None:
    broker = start("broker", "--bind", "tcp://127.0.0.1:0", "--json")
    try:
        environment = {"MANYHANDS_BROKER": json.loads(first_line(broker))["address"]}
        worker = start("worker", "--slots", "1", "--name", "one", env=environment)
        try:
            eventually(lambda: [node["name"] for node in nodes(env=environment)] == ["one"])
            several = run("drain", "one", "two", "three", "--wait", env=environment)
            assert "no node 'two', 'three' here, so none was drained" in fails(several, 1)
            assert several.stdout == ""
            # A node whose heartbeats are late on a busy machine is not ready, for a moment.
            eventually(lambda: [node["state"] for node in nodes(env=environment)] == ["ready"])
            shown = run("drain", "one", "one", "--wait", "--timeout", "100", env=environment)
            assert shown.stdout.splitlines() == [
                "one drains; it has 0 active tasks",
                "one has left",
            ]
            _, errors = worker.communicate(timeout=120)
        finally:
            worker.kill()
            worker.wait()
        assert worker.returncode == 0, errors
        assert "no node 'one' here" in fails(run("drain", "one", env=environment), 1)
        idle = run("worker", "--slots", "1", "--idle-timeout", "0.2s", env=environment)
        assert idle.returncode == 0
        assert "it had nothing to do for 0.2 s" in idle.stderr
        late = run("worker", "--slots", "1", "--time-limit", "0.2s", env=environment)
        assert late.returncode == 0
        assert "its time limit of 0.2 s is over" in late.stderr
    finally:
        code, errors = ended(broker, signal.SIGTERM)
    assert code == 0, errors


def _refused(address: str, folder: Path) -> None:
    """Neither with another key nor without one does anybody get in."""
    other = folder / "other.key"
    run("keys", "new", other)
    for environment in ({"MANYHANDS_KEY_FILE": str(other)}, {}):
        result = run("nodes", "--broker", address, "--connect-timeout", "2", env=environment)
        assert result.returncode in (3, 4), result
        assert "Traceback" not in result.stderr


def test_a_port_that_is_taken_is_one_line(cluster: LocalCluster) -> None:
    result = run("broker", "--bind", cluster.address)
    assert "cannot listen on" in fails(result, 2)


def test_nodes(cluster: LocalCluster, named: dict[str, str]) -> None:
    (node,) = nodes(env=named)
    assert node["name"] == cluster.nodes[0].name
    assert node["slots"] == 2
    assert node["pid"] == cluster.nodes[0].pid
    eventually(lambda: nodes(env=named)[0]["state"] == "ready")
    table = run("nodes", env=named).stdout.splitlines()
    assert table[0].split()[:3] == ["NAME", "STATE", "SLOTS"]
    assert table[1].split()[:3] in ([node["name"], state, "2"] for state in ("ready", "suspected"))


def test_jobs(named: dict[str, str]) -> None:
    made = document(run("run", "--json", "--name", "a\rb\x07", "math:sqrt", "4", env=named))["job"]
    job = next(
        job for job in document(run("jobs", "--json", env=named))["jobs"] if job["id"] == made
    )
    assert (job["state"], job["tasks"], job["done"]) == ("done", 1, 1)
    assert abs(job["submitted"] - time.time()) < 600
    table = run("jobs", env=named).stdout
    assert table.split()[:3] == ["ID", "NAME", "FUNCTION"]
    assert made in table
    # A name comes from another client: it cannot command the terminal.
    assert not {"\r", "\x07"} & set(table)


def test_cancel_ends_a_job_of_another_client(
    cluster: LocalCluster, named: dict[str, str], tmp_path: Path
) -> None:
    fifo = tmp_path / "started"
    os.mkfifo(fifo)
    with Client(cluster.address) as client:
        job = client.submit_job(os.system, [(f"echo > {fifo} && sleep 600",)])
        with fifo.open() as pipe:
            pipe.read(1)
        result = run("cancel", job.id, env=named)
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(job.id)
        assert job.wait(100)
    assert "had ended before: cancelled" in run("cancel", job.id, env=named).stderr


def test_where_nothing_listens_it_gives_up_soon() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        result = run("jobs", "--broker", address)
    reason = "the connection is refused: nothing listens there"
    assert f"no broker answers at {address} ({reason})" in fails(result, 3)


def test_who_waits_for_a_job_waits_for_a_broker_that_starts() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        with running("wait", "4f0c", "--broker", address) as waiting:
            assert waiting.stderr is not None
            assert "no broker answers yet at" in waiting.stderr.readline()


def test_cancel_of_an_unknown_job_is_an_error(named: dict[str, str]) -> None:
    assert "no such job: nothing" in fails(run("cancel", "nothing", env=named), 1)


def test_health(named: dict[str, str]) -> None:
    eventually(lambda: "1 node, 1 of them ready" in run("health", env=named).stdout)
    shown = document(run("health", "--node", "--json", env=named))
    assert (shown["nodes"], shown["ready"]) == (1, 1)
    fails(run("health", "--broker", "tcp://127.0.0.1:1", "--connect-timeout", "0.3"), 3)


def test_health_of_a_node_that_is_not_there(tmp_path: Path) -> None:
    broker = start("broker", "--bind", "tcp://127.0.0.1:0", "--json")
    try:
        address = json.loads(first_line(broker))["address"]
        assert run("health", env={"MANYHANDS_BROKER": address}).returncode == 0
        result = run("health", "--node", env={"MANYHANDS_BROKER": address})
        assert "is ready" in fails(result, 1)
    finally:
        ended(broker, signal.SIGTERM)


def test_options_of_services_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "manyhands.toml").write_text('[broker]\nbind = "tcp://127.0.0.1:0"\njson = true\n')
    broker = start("broker", cwd=tmp_path)
    try:
        assert json.loads(first_line(broker))["address"]
    finally:
        ended(broker, signal.SIGTERM)


def test_show_and_export_tell_how_a_job_went(
    cluster: LocalCluster, named: dict[str, str], tmp_path: Path
) -> None:
    with Client(cluster.address) as client:
        job = client.submit_job(int, [("7",), ("no 1",), ("no 22",), ("9",)])
        assert job.wait(100)
        eventually(
            lambda: client.query("history", id=job.id).get("sampled", {}).get("tasks") == 4,
            what="the node has told of all runs",
        )
    shown = run("show", job.id, env=named).stdout
    assert "2 times ValueError: invalid literal for int() with base 10" in shown
    assert "tasks 1, 2" in shown
    assert "How long tasks took:" in shown
    assert "task 1, attempt 1: failed on node" in shown
    assert re.search(
        r"queued .+ at the broker, waited .+ on the node, CPU .+ bytes in, .+ out", shown
    )
    history = document(run("show", job.id, "--json", env=named))["history"]
    assert history["timeline"][-1][1:] == [0, 0, 2, 2, 0]
    one = history["failures"]["first"][0]["run"]
    assert one["queued"] <= one["sent"] <= one["begun"]
    assert (one["given"] > 0, one["failed"]) == (True, 1)
    file = tmp_path / "trace.json"
    told = document(run("export", job.id, "--chrome-trace", file, "--json", env=named))
    assert told["runs"] == len(history["runs"])
    events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {span["name"] for span in spans} == {"int"}
    assert all(span["args"]["seconds waited on the node"] >= 0 for span in spans)
    assert all(span["ts"] > 1e15 for span in spans), "Unix time in microseconds"
    rows = [event["args"]["name"] for event in events if event["name"] == "thread_name"]
    assert set(rows) <= {"slot 0", "slot 1"}
    failed = [event["name"] for event in events if event["ph"] == "i"]
    assert sorted(failed) == ["task 1 failed", "task 2 failed"]


def test_export_says_why_there_is_nothing_to_write(named: dict[str, str], tmp_path: Path) -> None:
    # No node has what it takes, so it never runs.
    made = run("submit", "math:sqrt", "4", "--resource", "tpu=1", env=named).stdout.strip()
    result = run("export", made, "--chrome-trace", tmp_path / "trace.json", env=named)
    assert f"no times of job {made}" in fails(result, 1)
    assert run("cancel", made, env=named).returncode == 0
