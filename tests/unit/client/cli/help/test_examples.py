"""Every example in the help of every verb runs, as printed but for hosts, keys and jobs."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from harness.command import COMMAND, ended, first_line, running
from harness.processes import Gate, eventually, wait_at
from manyhands import Client, LocalCluster
from manyhands.cli._app import VERBS, app
from manyhands.cli._verb import VerbGroup
from manyhands_worker.core.results.run_log import LONG_SECONDS

#: What an example takes longer for than a test may, or what must be there that tests have elsewhere.
ELSEWHERE = {
    "manyhands up --ssh host1,host2,host3 --key-file cluster.key": "test_up_ssh.py",
    "manyhands why Process-3": "tests/integration/multiprocessing/test_processes.py",
    "manyhands loadtest": "tests/loadtest/test_command.py",
    "manyhands loadtest --hosts 1,2,4,8,16 --mix sleep:0.5": "tests/netns/test_loadtest.py",
    "manyhands loadtest --compare old/report.json": "tests/loadtest/test_report.py",
}
WORK = """
def score(item):
    return item

def simulate(rate, steps):
    return rate * steps

def sum(results):
    return len(results)
"""


def examples() -> dict[str, list[str]]:
    """The lines to type, by verb."""
    found: dict[str, list[str]] = {}

    def walk(group: VerbGroup, before: str) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            verb = group.get_command(context, name)
            if isinstance(verb, VerbGroup):
                walk(verb, f"{name} ")
            else:
                lines = [line for _, line in verb.examples]  # type: ignore[union-attr]
                found[before + name] = lines

    walk(app, "")
    return found


class Place:
    """A directory of a user, and a cluster."""

    def __init__(self, folder: Path, cluster: LocalCluster) -> None:
        self.folder = folder
        self.cluster = cluster
        (folder / "work.py").write_text(WORK)
        (folder / "items.jsonl").write_text("1\n2\n")
        (folder / "pairs.jsonl").write_text('[2, 10]\n{"base": 2, "exp": 10}\n')
        (folder / "list.txt").write_text("a/b.txt\nc.txt\n")
        for name in ("one.csv", "two.csv"):
            (folder / name).write_text("b\na\n")
        self._program("prog", "#!/bin/sh\nexit 0\n")
        (folder / "bin").mkdir()
        self._program("bin/manyhands", f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
        (folder / ".config/fish/completions").mkdir(parents=True)

    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "BROWSER": "true",
            "MANYHANDS_BROKER": self.cluster.address,
        }

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run lines as a shell that stops at the first that fails."""
        return subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env={**os.environ, **self.environment()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def submit(self, function: Callable[..., object], *arguments: object, wait: bool) -> str:
        """A durable job of one task; its id."""
        with Client(self.cluster.address) as client:
            job = client.submit_job(function, [arguments], durable=True)
            if wait:
                assert job.wait(100)
            return job.id

    def _program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("examples")
    broker = {"journal": str(folder / "journal"), "http": "127.0.0.1:0"}
    with LocalCluster(nodes=1, slots=2, broker=broker) as cluster:
        with Client(cluster.address) as client:
            eventually(lambda: client.query("nodes"), what="the node has joined")
        yield Place(folder, cluster)


SERVICES = ("up", "broker", "worker")
OVER = ("show", "wait", "watch", "results", "logs", "why", "forget", "export")
RUNNING = ("stack", "profile")
UNDER_WAY = ("pause", "resume", "cancel")


@pytest.mark.parametrize("verb", [verb for verb in examples() if verb not in SERVICES])
def test_the_examples_of_a_verb_run(verb: str, place: Place) -> None:
    lines = [line for line in examples()[verb] if line not in ELSEWHERE]
    script = "\n".join(lines)
    if verb in ("submit", "results"):
        # That of `map` is in the same directory.
        script = script.replace("--output results", f"--output {verb}-")
    if verb in OVER:
        script = script.replace("4f0c", _over(place))
    elif verb in UNDER_WAY:
        script = script.replace("4f0c", _under_way(place))
    elif verb == "retry":
        script = script.replace("4f0c", place.submit(int, "none", wait=True))
    elif verb == "drain":
        place.cluster.add_node("node-1")
        with Client(place.cluster.address) as client:
            client.wait_for_nodes(2)
    elif verb == "backup":
        # The other line starts a broker on it, as its own examples do.
        script = script.splitlines()[0].replace("/backups", str(place.folder))
    elif verb == "loadtest":
        script = script.replace("tcp://HOST:7711", place.cluster.address)
        # No more than a busy machine can do.
        script = script.replace("--rate 2000", "--rate 20")
        script += " --duration 0.5s --warmup 0s"
    elif verb.startswith("keys"):
        script = _with_keys(verb, script, place)
    with contextlib.ExitStack() as stack:
        if verb in RUNNING:
            script = _with_a_task(script, stack.enter_context(_running(place)))
        done = place.run(script)
    assert done.returncode == 0, (script, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr


def _over(place: Place) -> str:
    """A job of two tasks, so that the broker keeps its times.

    They are long. Of short ones the node tells a sample, if others run beside them: `exec` left some.
    """
    with Client(place.cluster.address) as client:
        job = client.submit_job(time.sleep, [(LONG_SECONDS,)] * 2, durable=True)
        assert job.wait(100)
        history: dict[str, Any] = {}

        def is_told() -> bool:
            history.update(client.query("history", id=job.id))
            # More where an attempt was lost and made again.
            return bool(history) and history["sampled"]["tasks"] >= 2

        try:
            eventually(is_told)
        except AssertionError:
            raise AssertionError(f"the node has not told of both runs: {history}") from None
        return job.id


def _under_way(place: Place) -> str:
    """A job that no node can run."""
    with Client(place.cluster.address) as client:
        job = client.submit_job(int, [("7",)], durable=True, resources={"moon": 1})
        return job.id


@contextlib.contextmanager
def _running(place: Place) -> Iterator[str]:
    """The id of a job whose only task runs for as long as this is entered."""
    gate = Gate(place.folder / "gate")
    try:
        with Client(place.cluster.address) as client:
            job = client.submit_job(wait_at, [(gate.path,)], durable=True)
            eventually(lambda: client.query("job", id=job.id)["active"] == 1, what="it runs")
            yield f"{job.id} {client.query('nodes')[0]['name']}"
            gate.open()
            assert job.wait(100)
    finally:
        gate.open()


def _with_a_task(script: str, names: str) -> str:
    job, node = names.split()
    # No longer than a test needs.
    script = script.replace("--seconds 30", "").replace("4f0c/17", f"{job}/0")
    script = script.replace("manyhands profile", "manyhands profile --seconds 0.3")
    return script.replace("4f0c", job).replace("node-7", node)


def _with_keys(verb: str, script: str, place: Place) -> str:
    folder = place.folder / verb.replace(" ", "-")
    folder.mkdir()
    before = [f"cd {folder.name}"]
    if verb != "keys new":
        before += ["manyhands keys new cluster.key"]
    if verb in ("keys allow", "keys revoke"):
        before += ["manyhands keys new alice.key --role client --cluster cluster.key"]
    shown = 'public=$(manyhands keys show --json {} | jq -r ".public[]" | head -n 1)'
    if verb == "keys allow":
        before += [shown.format("alice.key")]
    if verb == "keys new":
        # The last line is for another host, which knows the broker's public key.
        *first, last = script.splitlines()
        script = "\n".join([*first, shown.format("cluster.key"), last])
    return "\n".join([*before, script.replace("PUBLIC", "$public")])


@pytest.mark.xdist_group("usual port")
@pytest.mark.parametrize("verb", SERVICES)
def test_the_examples_of_a_service_run(verb: str, place: Place) -> None:
    for line in [line for line in examples()[verb] if line not in ELSEWHERE]:
        words = shlex.split(line)[1:]
        # Ports that may be another's.
        words = [word.replace("7712", "0").replace(":7711", ":0") for word in words]
        environment = {"MANYHANDS_BROKER_BIND": "tcp://127.0.0.1:0"}
        if verb == "worker":
            words = [place.cluster.address if "HOST" in word else word for word in words]
            words = [word for word in words if word not in ("--key-file", "cluster.key")]
            environment["MANYHANDS_BROKER"] = place.cluster.address
        with running(*words, "--json", cwd=place.folder, env=environment) as process:
            assert json.loads(first_line(process))["version"] == 1
            code, errors = ended(process, 15)
        assert code == 0, errors


def test_what_runs_elsewhere_is_there() -> None:
    known = {line for lines in examples().values() for line in lines}
    assert known >= ELSEWHERE.keys()
    here = Path(__file__).parent.parent
    root = next(parent for parent in here.parents if parent.name == "tests").parent
    for name in ELSEWHERE.values():
        assert (here / name).is_file() or (root / name).is_file()
    assert set(VERBS) - {"keys"} <= examples().keys()
    assert all(examples().values()), "each verb's help begins with an example"


def test_the_package_is_the_command() -> None:
    done = subprocess.run(
        [*COMMAND[:3], "-m", "manyhands", "--version"],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stdout.startswith("manyhands ")
