"""A client whose tasks cannot run is told why, without a question of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.processes import Gate, eventually, wait_at
from manyhands import Client, Executor, LocalCluster
from manyhands._io import silence_notice

BOUND = 120.0


def looks_each(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence_notice, "SILENCE_SECONDS", seconds)
    monkeypatch.setattr(silence_notice, "LONGEST_SECONDS", seconds)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    looks_each(0.2, monkeypatch)


def test_no_node_and_then_none_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    errors: list[str] = []

    def told(count: int) -> bool:
        errors.extend(capsys.readouterr().err.splitlines())
        return len(errors) >= count

    none = "manyhands: nothing runs of 1 unfinished task: "
    with LocalCluster(nodes=0) as cluster, Executor(address=cluster.address) as executor:
        waits = executor.with_options(resources={"gpu": 1}).submit(abs, -1)
        eventually(lambda: told(1), BOUND)
        cluster.add_node()
        eventually(lambda: told(2), BOUND)
        assert errors == [
            f"{none}no node is connected; start one with: manyhands worker",
            f"{none}no node has what each task takes: gpu=1",
        ]
        waits.cancel()


def test_of_tasks_that_run_nothing_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Until the task runs there would be something to say.
    looks_each(3600.0, monkeypatch)
    gate = Gate(tmp_path / "gate")
    cluster = LocalCluster(nodes=1, slots=2)
    with cluster, Executor(address=cluster.address) as executor:
        slow = executor.submit(wait_at, gate.path)
        with Client(cluster.address) as client:
            eventually(lambda: client.query("stats")["active"] == 1, BOUND)
            looks_each(0.2, monkeypatch)
            # A result that comes begins the silence anew.
            assert executor.submit(abs, -1).result(BOUND) == 1
            asked = executor._connection.io._silence
            first = asked.deadline
            eventually(lambda: asked.deadline != first, BOUND)
            second = asked.deadline
            eventually(lambda: asked.deadline != second, BOUND)
        gate.open()
        assert slow.result(BOUND) == "through"
    assert capsys.readouterr().err == ""
