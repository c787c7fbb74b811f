"""`manyhands loadtest` as a whole: real clusters, real clients, briefly; and clusters that lie."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import document, fails, run, running
from harness.processes import eventually
from harness.threads import starve
from manyhands import Client, LocalCluster
from manyhands.cli import _app

pytestmark = pytest.mark.slow

QUICK = ("--duration", "0.5", "--warmup", "0.2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two nodes with a slot each."""
    with LocalCluster(nodes=2, slots=1) as running:
        with Client(running.address) as client:
            client.wait_for_nodes(2)
        yield running


@pytest.fixture
def named(cluster: LocalCluster) -> dict[str, str]:
    return {"MANYHANDS_BROKER": cluster.address}


def test_both_loops_on_a_cluster_of_its_own_and_the_report(tmp_path: Path) -> None:
    result = run(
        *("loadtest", "--concurrency", "0", "--rate", "200", "--mix", "mixed", "--clients", "2"),
        *("--slots", "2", "--json", "--report", tmp_path / "report", *QUICK),
    )
    assert result.returncode == 0, result.stderr
    found = document(result)
    assert found["problem"] == ""
    pressed, paced = found["runs"][0]["steps"]
    assert (
        found["book"]["right"]
        == found["book"]["asked"]
        == sum(step["book"]["asked"] for step in (pressed, paced))
    )
    assert pressed["loop"] == "closed"
    # A busy machine may do none of it in the short time that counts.
    assert pressed["throughput"] == pytest.approx(pressed["done"] / pressed["seconds"])
    assert pressed["book"]["right"] > 0
    assert paced["offered"] == 200
    # What is due does not depend on the machine; what of it can be sent does.
    assert 20 < paced["sent"] + paced["unsent"] < 400
    assert paced["latency"]["count"] == paced["sent"] + paced["unsent"]
    assert sum(part["count"] for part in paced["parts"].values()) == paced["sent"]
    assert 0 < paced["latency"]["percentiles"]["50"] <= paced["latency"]["max"]
    assert [node["share"] for node in paced["nodes"]] == [1.0]
    assert {"queued", "active", "cpu_machine", "cpu_broker", "cpu_clients"} <= set(
        paced["samples"][0]
    )
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == found
    assert "<svg" in (tmp_path / "report" / "report.html").read_text()
    assert "open loop, 200 tasks/s" in (tmp_path / "report" / "report.md").read_text()


def test_a_named_cluster_and_a_comparison(tmp_path: Path, named: dict[str, str]) -> None:
    first = run("loadtest", "--concurrency", "8", *QUICK, "--report", tmp_path, env=named)
    assert first.returncode == 0, first.stderr
    assert "All " in first.stdout
    assert "\x1b" not in first.stderr
    old = tmp_path / "report.json"
    again = run(
        "loadtest", "--concurrency", "8", "--seed", "2", *QUICK, "--compare", old, env=named
    )
    assert again.returncode == 0, again.stderr
    assert "closed loop, 8 in flight: latency, 99 %" in again.stdout
    assert "These differ, so compare with care: seed 1 and 2." in again.stdout


def test_an_open_loop_that_cannot_keep_up_shows_the_queue(named: dict[str, str]) -> None:
    """A hundred tasks a second of 50 ms on two slots: 40 can be done, and the rest waits."""
    options = ("--mix", "sleep:50ms", "--arrivals", "uniform", "--duration", "1", "--warmup", "0")
    (step,) = document(run("loadtest", "--rate", "100", "--json", *options, env=named))["runs"][0][
        "steps"
    ]
    assert step["throughput"] < 45
    assert step["latency"]["max"] > 1.0
    assert step["latency"]["count"] == step["sent"] + step["unsent"]


def test_latency_counts_from_the_intended_start(
    cluster: LocalCluster, named: dict[str, str]
) -> None:
    """The client itself stands still for 1.3 of four seconds: what was due meanwhile has waited.

    Measured from when it was sent, a handful of tasks in flight at that moment were all that shows.
    """
    with Client(cluster.address) as asker:
        before = submitted(asker)
        with running(
            "loadtest", "--rate", "100", "--duration", "4", "--json", *CALM, env=named
        ) as process:
            eventually(lambda: submitted(asker) > before, what="the step has begun")
            (client,) = _clients_of(process.pid)
            os.kill(client, signal.SIGSTOP)
            threading.Event().wait(1.3)
            os.kill(client, signal.SIGCONT)
            out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (step,) = json.loads(out)["runs"][0]["steps"]
    assert step["latency"]["count"] == step["sent"] + step["unsent"] == pytest.approx(400, abs=3)
    assert step["latency"]["percentiles"]["90"] > 0.4
    assert step["latency"]["max"] > 0.9


CALM = ("--arrivals", "uniform", "--warmup", "0")


def submitted(asker: Client) -> int:
    return int(asker.query("stats")["counters"].get("tasks_submitted", 0))


def test_a_ramp_finds_what_the_slots_can_do(named: dict[str, str]) -> None:
    result = run("loadtest", "--mix", "sleep:20ms", "--json", "--duration", "0.4",
                 "--warmup", "0.2", env=named)  # fmt: skip
    found = document(result)["runs"][0]
    assert [step["loop"] for step in found["steps"]][:2] == ["closed", "open"]
    # Two slots, 50 each at best, and what was done before and is noted late; how near to that it comes
    # depends on the machine. The climb itself is tested without one.
    assert 0 < found["saturation"] <= 160
    assert 2 <= len(found["steps"]) < 30


#: What is replaced by what, what is said of it, and how many seconds answers are waited for.
LIES = {
    "wrong": ("return token", "return token + 1", "wrong", "100"),
    "failed": ("return token", "raise OSError('no')", "failed", "100"),
    "missing": ("return token", "__import__('threading').Event().wait()", "missing", "0.5"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_cluster_whose_answers_are_not_right_fails_it(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes find another `manyhands.loadtest.tasks` than the clients do."""
    truth, untruth, says, stop_timeout = LIES[lie]
    package = tmp_path / "manyhands" / "loadtest"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    package.joinpath("tasks.py").write_text(
        "def noop(token):\n    return token\n".replace(truth, untruth)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    cluster = LocalCluster(nodes=1)
    monkeypatch.undo()
    try:
        result = run(
            *(
                "loadtest",
                "--broker",
                cluster.address,
                "--concurrency",
                "4",
                "--stop-timeout",
                stop_timeout,
            ),
            *("--report", tmp_path / "report", *QUICK),
        )
        line = fails(result, 1)
        assert f" {says}; first: task " in line
        assert "FAILED" in (tmp_path / "report" / "report.md").read_text()
        assert 'class="verdict bad"' in (tmp_path / "report" / "report.html").read_text()
    finally:
        cluster.close(drain=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mix", "nop"], "'nop' is no kind of task"),
        (["--rate", "0"], "'0' is no number from 0.01"),
        (["--rate", "fast"], "'fast' is no number"),
        (["--hosts", "1,x"], "'x' is no number from 1 to 500"),
        (["--hosts", "2", "--broker", "tcp://127.0.0.1:1"], "give it or --broker"),
        (["--compare", "/nonexistent.json"], "cannot be read"),
        (["--duration", "0"], "more than 0"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str) -> None:
    assert says in fails(run("loadtest", *arguments), 2)


def test_a_broker_without_nodes_is_one_line() -> None:
    with LocalCluster(nodes=0) as empty:
        result = run("loadtest", "--broker", empty.address, "--connect-timeout", "3", *QUICK)
    line = fails(result, 1)
    assert "0 of 1 node joined" in line
    assert "start more with `manyhands worker`" in line


def test_a_report_of_another_version_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    file.write_text('{"kind": "manyhands loadtest", "version": 99}')
    assert "is of version 99" in fails(run("loadtest", "--compare", file), 2)
    file.write_text("[]")
    assert "is no report of a load test" in fails(run("loadtest", "--compare", file), 2)


def test_interrupted_it_ends_with_everything_it_started(named: dict[str, str]) -> None:
    with running("loadtest", "--concurrency", "4", "--duration", "1h", env=named) as process:
        assert process.stderr is not None
        eventually(lambda: _clients_of(process.pid), what="its client runs")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"


def _clients_of(pid: int) -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if _stat(entry)[1:2] == [str(pid)] and b"loadtest.driver" in _command(entry)
    ]


def _stat(entry: Path) -> list[str]:
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def test_it_draws_a_live_table_on_a_terminal_only(named: dict[str, str]) -> None:
    import pty
    import subprocess

    from harness.command import COMMAND

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "loadtest", "--concurrency", "2", *QUICK],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, **named, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"},
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # the terminal's other end is closed
        pass
    finally:
        os.close(ours)
        process.wait(100)
    assert process.returncode == 0
    assert b"2 nodes, 2 slots" in shown
    assert b"\x1b[2K" in shown  # it redraws
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown)  # without a colour


@pytest.mark.parametrize("name", ["manyhands-loadtest", "manyhands-monitor"])
def test_without_a_thread_it_says_so(
    name: str,
    cluster: LocalCluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = starve(monkeypatch, name)
    words = ["loadtest", "--broker", cluster.address, "--concurrency", "2", "--mix", "noop", *QUICK]
    code = _app.run(words)
    assert refused == [name]
    assert code != 0
    assert "the system gives no thread" in capsys.readouterr().err
