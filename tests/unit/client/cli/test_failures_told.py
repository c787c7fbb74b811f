"""Why a task failed, wherever the command tells of it; and a document of every verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.command import document, fails, run
from harness.processes import eventually
from manyhands import Client
from manyhands.cli._app import VERBS, app

if TYPE_CHECKING:
    from manyhands import LocalCluster

WORK = """
import os

def bad(number):
    raise ValueError(f"bad {number}")

def die(number):
    print("last words", flush=True)
    os._exit(int(number))

def refuse(number):
    import manyhands
    raise manyhands.ConfigError("not so")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user")
    (path / "work.py").write_text(WORK)
    return path


def test_lines_have_the_traceback_of_the_node(named: dict[str, str], folder: Path) -> None:
    result = run("map", "work:bad", stdin="4\n", cwd=folder, env=named)
    assert "1 of 1 item failed, item 0 first: ValueError: bad 4; " in fails(result, 1)
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["message"]) == ("ValueError", "bad 4")
    assert "line 5, in bad" in error["traceback"]
    assert error["traceback"].endswith("ValueError: bad 4\n")


def test_types_are_named_as_users_import_them(named: dict[str, str], folder: Path) -> None:
    refused = run("map", "work:refuse", stdin="4\n", cwd=folder, env=named)
    assert json.loads(refused.stdout)["error"]["type"] == "manyhands.ConfigError"
    job = run("submit", "work:refuse", "1", cwd=folder, env=named).stdout.strip()
    assert run("wait", job, env=named).returncode == 1
    shown = document(run("show", job, "--json", env=named))
    assert shown["history"]["failures"]["groups"][0]["type"] == "manyhands.ConfigError"


def test_logs_end_with_what_was_raised(named: dict[str, str], folder: Path) -> None:
    job = run("submit", "work:bad", "1", cwd=folder, env=named).stdout.strip()
    run("wait", job, env=named)
    printed = run("logs", job, env=named).stdout
    assert "1 time ValueError: bad 1" in printed
    assert "line 5, in bad" in printed
    told = document(run("logs", job, "--json", env=named))
    assert "in bad" in told["failures"]["groups"][0]["traceback"]
    results = run("results", job, env=named)
    assert "in bad" in json.loads(results.stdout)["error"]["traceback"]
    assert "task 0 first: ValueError: bad 1" in fails(results, 1)


def test_the_story_of_crashes_stays_after_the_end(named: dict[str, str], folder: Path) -> None:
    attached = run("map", "work:die", "--name", "attached", stdin="3\n", cwd=folder, env=named)
    assert "manyhands.TaskCrashed" in fails(attached, 1)
    durable = run("submit", "work:die", "5", cwd=folder, env=named).stdout.strip()
    run("wait", durable, env=named)
    (past,) = document(run("jobs", "--name", "attached", "--json", env=named))["jobs"]
    for job, code in ((past["id"], 3), (durable, 5)):
        shown = run("show", job, env=named).stdout
        for attempt in (1, 2):
            assert f"task 0: attempt {attempt} " in shown
        assert f"exited with code {code}" in shown
        assert "last words" in shown


def test_a_job_without_a_journal_is_told_of(named: dict[str, str]) -> None:
    submitted = run("submit", "math:sqrt", "4", env=named)
    detached = run("exec", "--detach", "--json", "true", env=named)
    for result in (submitted, detached):
        assert result.returncode == 0
        assert "the broker has no journal: this job and its results end with" in result.stderr
    assert document(detached)["journal"] is False


def test_jobs_are_chosen(named: dict[str, str], folder: Path) -> None:
    for name in ("chosen-1", "chosen-2"):
        run("run", "--name", name, "math:sqrt", "4", env=named)
    run("map", "work:bad", "--name", "chosen-3", stdin="1\n", cwd=folder, env=named)

    def chosen(*options: str) -> list[str]:
        jobs = document(run("jobs", "--json", *options, env=named))["jobs"]
        return [job["name"] for job in jobs]

    assert chosen("--name", "chosen*") == ["chosen-1", "chosen-2", "chosen-3"]
    assert chosen("--name", "chosen*", "--state", "failed", "--mine") == ["chosen-3"]
    assert chosen("--name", "chosen-1", "--name", "chosen-3", "--state", "done") == ["chosen-1"]
    assert "'ended' is not one of" in fails(run("jobs", "--state", "ended", env=named), 2)


def test_every_verb_has_a_document() -> None:
    def without(group: object, names: list[str]) -> list[str]:
        missing = []
        for name in names:
            verb = group.get_command(None, name)  # type: ignore[attr-defined]
            if hasattr(verb, "commands"):
                missing += without(verb, list(verb.commands))
            elif "json" not in {parameter.name for parameter in verb.params}:
                missing.append(name)
        return missing

    assert without(app, list(VERBS)) == []


def test_documents_of_orders(cluster: LocalCluster, named: dict[str, str], folder: Path) -> None:
    with Client(cluster.address) as client:
        job = client.submit_job(int, [("7",)], durable=True)
        assert job.wait(100)
        assert document(run("wait", job.id, "--json", env=named))["jobs"] == [
            {"id": job.id, "state": "done"}
        ]
        output = folder / "results.jsonl"
        told = document(run("results", job.id, "--output", output, "--json", env=named))
        assert (told["job"], told["tasks"], told["failed"]) == (job.id, 1, 0)
        assert json.loads(output.read_text()) == {"index": 0, "result": 7}
        assert "--output" in fails(run("results", job.id, "--json", env=named), 2)
        cancelled = document(run("cancel", job.id, "--json", env=named))["jobs"]
        assert cancelled == [{"id": job.id, "state": "done"}]
        forgotten = document(run("forget", job.id, "--json", env=named))["jobs"]
        assert forgotten == [{"id": job.id, "state": "forgotten"}]
        eventually(lambda: job.id not in str(client.query("jobs")))


def test_documents_of_programs(named: dict[str, str]) -> None:
    result = run("exec", "--json", "-k", "sh", "-c", "echo $0; exit $0", ":::", "0", "3", env=named)
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["exit"], first["stdout"], first["inputs"]) == (0, "0\n", ["0"])
    assert (second["exit"], second["seq"]) == (3, 2)
    assert second["error"].startswith("exit code 3: ")
    assert "1 of 2 programs failed" in fails(result, 1)
    told = document(
        run("map", "math:sqrt", "--output", "/dev/null", "--json", stdin="4\n", env=named)
    )
    assert (told["items"], told["failed"]) == (1, 0)
