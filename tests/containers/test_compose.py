"""compose.yaml with a real engine: a keyed cluster that grows, shrinks, and loses parts under load."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.processes import eventually
from manyhands_worker.host.key_hiding import _LANDLOCK, _landlock_version

if TYPE_CHECKING:
    from harness.environments.compose import Compose

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1_200), pytest.mark.xdist_group("engine")]

JOBS = Path(__file__).parent / "jobs"
#: Primes below the limit that the client's job is given.
LIMIT, PRIMES = 400_000, 33_860
PATIENCE = 300.0


@pytest.fixture(scope="module")
def running(cluster: Compose) -> Compose:
    """The cluster with a broker and one node."""
    cluster.run("up", "-d", "--scale", "worker=1", timeout=300)
    return cluster


@pytest.fixture
def scaled(running: Compose) -> Callable[[int], Compose]:
    """Return what scales to a number of ready nodes, however many there were."""

    def scale(count: int) -> Compose:
        running.run("up", "-d", "--no-recreate", "--scale", f"worker={count}", timeout=300)
        eventually(
            lambda: ready(running) == count, PATIENCE, interval=0.5, what=f"{count} nodes are ready"
        )
        return running

    return scale


def ready(cluster: Compose) -> int:
    """How many nodes the broker calls ready; -1 if it does not answer."""
    command = ["exec", "-T", "broker", "manyhands", "nodes", "--json"]
    try:
        nodes = json.loads(cluster.run(*command, timeout=300))["nodes"]
    except AssertionError:
        return -1
    return sum(node["state"] == "ready" for node in nodes)


class Load:
    """A client in a container that keeps the cluster busy through phases; see jobs/steady.py."""

    def __init__(self, cluster: Compose, phases: str, *options: str) -> None:
        jobs = f"{JOBS}:/load:ro"
        run = ["run", "--rm", "-T", "-v", jobs, "client", "/load/steady.py", phases, *options]
        self.process = cluster.start(*run)
        self.said: list[str] = []

    def until(self, sign: str) -> None:
        """Wait for a line on stderr with `sign` in it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if sign in line:
                return
        raise AssertionError(f"ended before {sign!r}: {''.join(self.said)}")

    def verdict(self) -> dict[str, int]:
        """What has become of all tasks."""
        out, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, "".join(self.said) + errors
        counts: dict[str, int] = json.loads(out.strip().splitlines()[-1])
        return counts


@contextmanager
def load(cluster: Compose, phases: str, *options: str) -> Iterator[Load]:
    running = Load(cluster, phases, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def docker(*arguments: str) -> str:
    done = subprocess.run(
        ["docker", *arguments], check=True, capture_output=True, text=True, timeout=200
    )
    return done.stdout.strip()


def test_scaled_from_one_to_four_to_two_nothing_is_lost_and_nothing_runs_twice(
    scaled: Callable[[int], Compose],
) -> None:
    cluster = scaled(1)
    # Tasks that may not run twice end in an error if they ever would have to.
    with load(cluster, "1,4,2", "at-most-once") as steady:
        steady.until("seen 1")
        cluster.run("up", "-d", "--no-recreate", "--scale", "worker=4", timeout=300)
        steady.until("seen 4")
        cluster.run("up", "-d", "--no-recreate", "--scale", "worker=2", timeout=300)
        found = steady.verdict()
    assert (found["lost"], found["twice"]) == (0, 0)
    assert found["hosts"] == 4
    assert found["tasks"] > 100


def test_a_node_killed_in_mid_job_costs_no_result(scaled: Callable[[int], Compose]) -> None:
    cluster = scaled(2)
    victim = cluster.containers("worker")[0]
    with load(cluster, "2,1") as steady:
        steady.until("seen 2")
        docker("kill", victim)
        found = steady.verdict()
    assert (found["lost"], found["twice"]) == (0, 0)
    assert docker("inspect", "--format", "{{.State.Status}}", victim) == "exited"


def test_a_node_that_is_cut_off_comes_back(scaled: Callable[[int], Compose]) -> None:
    cluster = scaled(2)
    victim = cluster.containers("worker")[0]
    [network] = docker(
        "inspect", "--format", "{{range $k, $v := .NetworkSettings.Networks}}{{$k}}{{end}}", victim
    ).split()
    with load(cluster, "2,1,2") as steady:
        steady.until("seen 2")
        docker("network", "disconnect", network, victim)
        steady.until("seen 1")
        docker("network", "connect", network, victim)
        found = steady.verdict()
    assert (found["lost"], found["twice"]) == (0, 0)


def test_a_durable_job_outlives_the_broker_and_its_container(
    scaled: Callable[[int], Compose],
) -> None:
    cluster = scaled(2)
    submit = "for n in $(seq 200); do echo 0.05; done | manyhands submit time:sleep --input -"
    inside = ["exec", "-T", "broker"]
    job = cluster.run(*inside, "sh", "-c", submit, timeout=300).strip()
    [broker] = cluster.containers("broker")
    docker("kill", broker)
    docker("rm", broker)
    cluster.run("up", "-d", "--no-recreate", "--scale", "worker=2", timeout=300)
    wait = ["manyhands", "wait", job, "--timeout", "5m"]
    assert cluster.run(*inside, *wait, timeout=400).strip() == f"{job} done"
    results = cluster.run(*inside, "manyhands", "results", job, timeout=300).splitlines()
    assert sorted(json.loads(line)["index"] for line in results) == list(range(200))


def test_the_example_gives_the_right_answer(scaled: Callable[[int], Compose]) -> None:
    cluster = scaled(2)
    out = cluster.run("run", "--rm", "-T", "client", "primes.py", str(LIMIT), timeout=300)
    assert f"{PRIMES} primes below {LIMIT}" in out


def test_the_load_test_finds_every_answer(scaled: Callable[[int], Compose]) -> None:
    short = ["--duration", "1s", "--warmup", "0.2s", "--rate", "50", "--mix", "noop"]
    out = scaled(2).run("run", "--rm", "-T", "loadtest", "loadtest", *short, timeout=300)
    assert "answers came, once each, and were right" in out


def test_everybody_is_healthy_and_confined(scaled: Callable[[int], Compose]) -> None:
    cluster = scaled(2)
    cluster.run("exec", "-T", "broker", "manyhands", "health", timeout=300)
    [broker], worker = cluster.containers("broker"), cluster.containers("worker")[0]
    eventually(
        lambda: docker("inspect", "--format", "{{.State.Health.Status}}", worker) == "healthy",
        PATIENCE,
        interval=0.5,
    )
    for container in (broker, worker):
        assert docker("exec", container, "id", "-u") not in ("", "0")
        with pytest.raises(subprocess.CalledProcessError):
            docker("exec", container, "sh", "-c", "echo x > /opt/x || echo x > /home/manyhands/x")
        docker("exec", container, "sh", "-c", "echo x > /tmp/x && echo x > /scratch/x")
        confined = docker(
            "inspect",
            "--format",
            "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.PidsLimit}} "
            "{{.HostConfig.SecurityOpt}}",
            container,
        )
        assert confined.startswith("true [ALL] ")
        assert "no-new-privileges" in confined
        assert "<nil>" not in confined


@pytest.mark.skipif(_landlock_version() < _LANDLOCK, reason="needs Landlock")
def test_a_task_cannot_read_the_key_of_its_node(scaled: Callable[[int], Compose]) -> None:
    jobs = ["-v", f"{JOBS}:/load:ro", "client", "/load/curious.py"]
    out = scaled(1).run("run", "--rm", "-T", *jobs, timeout=300)
    assert set(json.loads(out).values()) == {"Permission denied"}, out


def test_slots_and_memory_are_those_of_the_container(scaled: Callable[[int], Compose]) -> None:
    cluster = scaled(1)
    nodes = json.loads(
        cluster.run("exec", "-T", "broker", "manyhands", "nodes", "--json", timeout=300)
    )["nodes"]
    [node] = [node for node in nodes if node["state"] == "ready"]
    assert node["slots"] == 1  # the host has more
    assert node["resources"]["memory"] == 1 << 30


def test_metrics_are_published_to_this_host_alone(scaled: Callable[[int], Compose]) -> None:
    cluster = scaled(1)
    [broker] = cluster.containers("broker")
    address, _, port = docker("port", broker, "9711/tcp").rpartition(":")
    assert address == "127.0.0.1"

    def ask(path: str, host: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(address, int(port), timeout=300)
        try:
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    status, text = ask("/scale", "localhost")
    document: dict[str, Any] = json.loads(text)
    assert (status, document["slots"]) == (200, 1)
    assert ask("/metrics", "broker:9711")[0] == 200  # as Prometheus asks
    assert ask("/metrics", "evil.example")[0] == 421


def test_without_the_key_nobody_gets_in(scaled: Callable[[int], Compose]) -> None:
    keyless = ["--entrypoint", "env", "client", "-u", "MANYHANDS_KEY_FILE", "manyhands", "nodes"]
    refused = scaled(1).start("run", "--rm", "-T", *keyless, "--connect-timeout", "3")
    _, errors = refused.communicate(timeout=300)
    assert refused.returncode in (3, 4)
    assert "error: " in errors
    assert "Traceback" not in errors
