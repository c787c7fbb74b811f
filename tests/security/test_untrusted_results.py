"""An admin reads another key's results without running what is in them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import manyhands
from harness.cluster.keyed import Keyed
from harness.command import document, fails, run


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.open, (self.file, os.O_CREAT)


def answer(kind: str, file: str) -> Any:
    """A result of a kind, or an exception that carries a trap."""
    if kind == "raise":
        raise ValueError(Trap(file))
    values: dict[str, Any] = {
        "plain": {"a": [1, 2.5, None], "b": ("x", b"y", {3})},
        "trap": Trap(file),
        "nested": [1, {"deep": Trap(file)}],
    }
    return values[kind]


@pytest.fixture
def alice(keyed: Keyed) -> Iterator[manyhands.Client]:
    """A client with a key of her own, and a node."""
    keyed.node(keyed.key("mill", "worker"))
    file = keyed.key("alice", "client")
    with manyhands.Client(keyed.broker.address, key_file=file) as client:
        yield client


@pytest.fixture
def job(keyed: Keyed, alice: manyhands.Client) -> tuple[manyhands.Client, str, Path]:
    """A durable job of alice, with what its results would make of a reader's disk."""
    evil = keyed.folder / "loaded"
    kinds = [("plain", str(evil)), ("trap", str(evil)), ("nested", str(evil)), ("raise", str(evil))]
    submitted = alice.submit_job(answer, kinds, durable=True)
    assert submitted.wait(100)
    evil.unlink(missing_ok=True)  # what nodes proved to load made it there
    return alice, submitted.id, evil


def test_an_admins_command_runs_nothing_of_a_client(
    keyed: Keyed, job: tuple[manyhands.Client, str, Path]
) -> None:
    _, job_id, evil = job
    admin = {
        "MANYHANDS_BROKER": keyed.broker.address,
        "MANYHANDS_KEY_FILE": str(keyed.key("root", "admin")),
    }
    shown = run("results", job_id, env=admin)
    assert "3 of 4" not in shown.stderr
    assert "2 of 4 results were not loaded" in fails(shown, 1)
    assert "--trust" in shown.stderr
    lines = {line["index"]: line for line in map(_read, shown.stdout.splitlines())}
    assert lines[0]["repr"] == "{'a': [1, 2.5, None], 'b': ('x', b'y', {3})}"
    assert "the result holds posix.open" in lines[1]["error"]["message"]
    assert "the result holds posix.open" in lines[2]["error"]["message"]
    assert lines[3]["error"]["type"] == "ValueError"
    assert not evil.exists()
    # The cluster's key is no other than an admin's, as far as alice is concerned.
    run("results", job_id, env={**admin, "MANYHANDS_KEY_FILE": str(keyed.cluster_file)})
    assert not evil.exists()
    run("results", job_id, "--trust", env=admin)
    assert evil.exists()


def test_an_admins_program_runs_nothing_of_a_client_unless_it_says_so(
    keyed: Keyed, job: tuple[manyhands.Client, str, Path]
) -> None:
    alice, job_id, evil = job
    with manyhands.Client(keyed.broker.address, key_file=keyed.key("root", "admin")) as admin:
        found = dict(admin.attach(job_id))
        assert found[0] == {"a": [1, 2.5, None], "b": ("x", b"y", {3})}
        assert isinstance(found[1], manyhands.ResultWithheld)
        assert isinstance(found[3], ValueError)
        assert not evil.exists()
        dict(admin.attach(job_id, trust=True))
        assert evil.exists()
    evil.unlink()
    dict(alice.attach(job_id))  # her own
    assert evil.exists()


def test_safe_jobs_need_no_pickle_and_no_trust(keyed: Keyed, alice: manyhands.Client) -> None:
    job = alice.submit_job(divmod, [(7, 2)], durable=True, safe=True)
    assert job.wait(100)
    admin = {
        "MANYHANDS_BROKER": keyed.broker.address,
        "MANYHANDS_KEY_FILE": str(keyed.key("root", "admin")),
    }
    shown = run("results", job.id, env=admin)
    assert shown.returncode == 0, shown
    assert _read(shown.stdout) == {"index": 0, "result": [3, 1]}
    assert document(run("show", job.id, "--json", env=admin))["job"]["state"] == "done"


def _read(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found
