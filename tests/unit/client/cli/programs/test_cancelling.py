"""`manyhands cancel` of programs that run."""

from __future__ import annotations

from pathlib import Path

from harness.command import document, run
from harness.processes import eventually


def test_a_job_that_was_cancelled_is_told_to_be(named: dict[str, str], tmp_path: Path) -> None:
    running = tmp_path / "running"
    words = ["--detach", "--shell", f"touch {running}; sleep 1000"]
    jobs = []
    for _ in range(2):
        jobs.append(run("exec", *words, env=named).stdout.strip())
        eventually(running.exists, timeout=100, what="the program runs")
        running.unlink()
    first, second = jobs
    assert run("cancel", first, env=named).stdout == f"{first} cancelled\n"
    told = document(run("cancel", second, "--json", env=named))["jobs"]
    assert told == [{"id": second, "state": "cancelled"}]
    assert (
        run("wait", first, second, env=named).stdout == f"{first} cancelled\n{second} cancelled\n"
    )
