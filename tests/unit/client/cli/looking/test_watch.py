"""`manyhands watch` and `manyhands logs`: what a job does while it does it."""

from __future__ import annotations

from pathlib import Path

from harness.command import fails, run, running
from harness.processes import Gate, eventually, wait_at, without_waits
from manyhands import Client
from manyhands.cli._progress_line import ProgressLine


def speak(number: int, gate: Path) -> None:
    print(f"{number} begins", flush=True)
    wait_at(gate)
    print(f"{number} ends")


def wait_and_speak(number: int, gate: Path) -> None:
    """Speak. No job has run this before, so a node gets no more of them than it has slots."""
    speak(number, gate)


def test_logs_are_followed_to_the_end_of_the_job(
    client: Client, named: dict[str, str], gate: Gate
) -> None:
    job = client.submit_job(speak, [(0, gate.path)], durable=True)
    eventually(job.output, what="the task prints")
    with running("logs", job.id[:10], "--follow", env=named) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0 begins\n"
        gate.open()
        out, errors = process.communicate(timeout=100)
        assert (out, without_waits(errors)) == ("0 ends\n", "")
    assert process.returncode == 0
    assert "--follow" in fails(run("logs", job.id, "--follow", "--json", env=named), 2)


def test_logs_of_one_task(client: Client, named: dict[str, str], gate: Gate) -> None:
    gate.open()
    job = client.submit_job(speak, [(n, gate.path) for n in range(3)], durable=True)
    assert job.wait(100)
    assert run("logs", job.id, "--task", "1", env=named).stdout == "1 begins\n1 ends\n"
    whole = run("logs", job.id, "--follow", env=named).stdout.splitlines()
    assert sorted(whole) == [f"{n}: {n} {does}" for n in range(3) for does in ("begins", "ends")]


def test_a_job_is_watched_until_it_is_done(
    client: Client, named: dict[str, str], gate: Gate
) -> None:
    job = client.submit_job(wait_and_speak, [(n, gate.path) for n in range(3)])
    eventually(lambda: [one["active"] for one in client.query("jobs", begins=job.id)] == [2])
    with running("watch", job.id, env=named) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "running: 0 of 3 tasks ended, 2 active, 1 queued\n"
        gate.open()
        out, errors = process.communicate(timeout=100)
    assert out.splitlines()[-1] == f"{job.id} done"
    assert (process.returncode, without_waits(errors)) == (0, "")


def test_the_exit_code_is_that_of_the_job(
    client: Client, named: dict[str, str], gate: Gate
) -> None:
    job = client.submit_job(abs, [(-1,), (None,)])
    assert job.wait(100)
    told = run("watch", job.id, env=named)
    assert told.stdout.splitlines()[-1] == f"{job.id} failed"
    assert "1 of 2 tasks failed" in fails(told, 1)
    waiting = client.submit_job(wait_at, [(gate.path,)])
    eventually(lambda: client.query("jobs", begins=waiting.id), what="the broker has the job")
    waiting.cancel()
    assert waiting.wait(100)
    assert "was cancelled" in fails(run("watch", waiting.id, env=named), 1)
    assert "no such job" in fails(run("watch", "nonsense", env=named), 1)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    line = ProgressLine()
    info = {"state": "running", "tasks": 1_000, "done": 0, "failed": 0, "cancelled": 0}
    line.update(info, 0.0)
    assert str(line) == "running: 0 of 1,000 tasks ended"
    line.update({**info, "done": 100}, 100.0)
    line.update({**info, "done": 200, "failed": 1, "active": 3, "queued": 796}, 110.0)
    assert str(line) == (
        "running: 201 of 1,000 tasks ended, 1 failed, 3 active, 796 queued, "
        "10.1 tasks/s, about 79.1 s left"
    )
