"""`manyhands stack` and `manyhands profile`: what tasks do while they do it."""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

from harness.command import document, fails, run
from harness.processes import Gate, eventually, wait_at
from manyhands import Client, LocalCluster
from manyhands_shared.profiling import flame_graph
from manyhands_shared.profiling.stacks import Frame, counted


def hot(number: int) -> int:
    return sum(one * number for one in range(2_000))


def busy(end: Path) -> None:
    while not end.exists():
        hot(3)


def in_c() -> None:
    sum(range(10**13))


def test_a_task_a_job_and_a_node_are_looked_at(
    client: Client, named: dict[str, str], tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "gate")
    job = client.submit_job(wait_at, [(gate.path,), (gate.path,), (gate.path,)])
    eventually(lambda: [one["active"] for one in client.query("jobs", begins=job.id)] == [2])

    [node] = [node["name"] for node in client.query("nodes")]

    def seen(stacks: list[dict[str, Any]]) -> list[tuple[int, bool]]:
        return sorted((one["index"], " in wait_at" in one["text"]) for one in stacks)

    eventually(
        lambda: seen(client.query("stacks_of_node", node=node)["stacks"]) == [(0, True), (1, True)]
    )
    for target in (job.id[:12], node):
        told = run("stack", target, "--json", env=named)
        assert seen(document(told)["stacks"]) == [(0, True), (1, True)]
    said = run("stack", f"{job.id[:12]}/0", env=named).stdout.splitlines()
    assert said[0].startswith(f"task 0 of job {job.id}, attempt 1, on node {node}, slot ")
    assert "in wait_at" in said[2]
    assert "no job and no node" in fails(run("stack", "nonsense", env=named), 1)
    gate.open()
    assert job.wait(100)
    assert "is over" in fails(run("stack", f"{job.id}/0", env=named), 1)


def test_a_call_of_c_that_does_not_return_is_seen(client: Client, named: dict[str, str]) -> None:
    job = client.submit_job(in_c, [()])
    eventually(lambda: " in in_c" in run("stack", job.id, env=named).stdout)
    job.cancel()
    assert job.wait(100)


def test_a_safe_node_is_looked_at_too() -> None:
    with (
        LocalCluster(nodes=1, slots=1, worker={"safe": "time:sleep"}) as safe,
        Client(safe.address) as client,
    ):
        job = client.submit_job(time.sleep, [(600,)], safe=True)
        eventually(lambda: client.query("jobs", begins=job.id), what="the broker has the job")

        def stacks() -> list[list[str]]:
            [node] = client.query("nodes_of", id=job.id) or [""]
            found = client.query("stacks", id=job.id, on_node=node)["stacks"] if node else []
            return [one["text"].splitlines()[1:] for one in found]

        # `sleep` is no function of Python's, and what called it is not the task's. Before it sleeps, the
        # child looks whether it may.
        eventually(lambda: stacks() == [["  [in no Python function of the task]"]])
        job.cancel()


def test_a_profile_names_the_hot_function(
    client: Client, named: dict[str, str], tmp_path: Path
) -> None:
    end = tmp_path / "end"
    job = client.submit_job(busy, [(end,)])
    eventually(lambda: " in hot" in run("stack", job.id, env=named).stdout)
    told = run("profile", job.id, "--seconds", "1", cwd=tmp_path, env=named)
    end.touch()
    assert told.returncode == 0, told.stderr
    heading, first, *_ = told.stdout.splitlines()
    assert heading.split() == ["ITSELF", "WITH", "WHAT", "IT", "CALLS", "FUNCTION", "FILE"]
    assert " hot " in first or " <genexpr> " in first
    [scope] = tmp_path.glob("profile-*.speedscope.json")
    written = json.loads(scope.read_text())
    names = [frame["name"] for frame in written["shared"]["frames"]]
    assert {"busy", "hot", "<genexpr>"} <= set(names)
    [profile] = written["profiles"]
    assert sum(profile["weights"]) == profile["endValue"] > 0
    [drawn] = tmp_path.glob("profile-*.svg")
    titles = [one.text or "" for one in ET.parse(drawn).iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("hot, ") for title in titles)
    assert job.wait(100)


def test_names_in_a_flame_graph_are_text() -> None:
    evil = Frame("<script>alert(1)</script>\x1b[2J", '"><img src=x>')
    drawn = flame_graph.draw("job <b>", Counter({(evil,): 3, (evil, evil): 2}))
    root = ET.fromstring(drawn)
    assert {one.tag.rpartition("}")[2] for one in root.iter()} == {
        *("svg", "style", "text", "g", "title", "rect")
    }
    assert "\x1b" not in drawn


def test_frames_are_read_from_the_outside_in() -> None:
    text = '  File "a b.py", line 3 in inner\n  File "c.py", line 9 in <module>\n'
    stacks = [{"text": text, "count": 2}, {"text": text, "count": 1}, {"text": "", "count": 9}]
    assert counted(stacks) == {(Frame("<module>", "c.py"), Frame("inner", "a b.py")): 3}
